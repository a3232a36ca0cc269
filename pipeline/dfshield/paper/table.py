"""What a table of the paper is: its rows as printed, and its cells, each with all that names it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_validator,
)

Key = StrictBool | StrictInt | StrictFloat | StrictStr
"""What names a row or a column in one field: a data set, a method, a λ, a tick."""
Keys = Mapping[str, Key]

_CELL = re.compile(r"([+-]?\d+(?:\.\d+)?)([^\d\s()]?)(?: \(([+-]?\d+(?:\.\d+)?)\))?")
"""A number, perhaps its mark, perhaps a second number in brackets."""


class _Part(BaseModel):
    """A part of a table: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Metric(_Part):
    """What a number of the table means.

    Attributes:
        label: heads its column.
        unit: ``percent`` of the test images, ``points`` of percent between two of these, a
            ``share`` in [0, 1], a ``count``, or ``nats``.
        meaning: in words.
    """

    label: str
    unit: Literal["percent", "points", "share", "count", "nats"]
    meaning: str


class Column(_Part):
    """A column of numbers.

    Attributes:
        keys: what it is of, by field: a model, a data set, a value of λ2.
        metric: of its numbers.
        brackets: metric of the numbers that stand in brackets behind those, if any do.
    """

    keys: dict[str, Key] = {}
    metric: str
    brackets: str | None = None


class Footnote(_Part):
    """What has to be known of printed numbers: conflicts, repetitions, what cannot be.

    Attributes:
        text: one or more sentences.
        cells: which cells it is about, each entry by keys that they have (``metric`` is one as
            well, and ``printed``, the number itself); empty: the table.
    """

    text: str
    cells: tuple[dict[str, Key], ...] = ()


@dataclass(frozen=True)
class Cell:
    """One number of a table.

    Attributes:
        keys: what it is of, by field; data set and model are always among them.
        metric: its name in `PaperTable.metrics`.
        printed: the number as the paper prints it, without mark and brackets.
        mark: ``†`` where the paper says that the training did not converge, else empty.
    """

    keys: Keys
    metric: str
    printed: str
    mark: str = ""

    @property
    def value(self) -> float:
        """The number, in the unit of its metric."""
        return float(self.printed)

    def fits(self, selection: Keys) -> bool:
        """Return whether the cell has all these keys, which may be ``metric`` and ``printed``."""
        own = {**self.keys, "metric": self.metric, "printed": self.printed}
        return all(field in own and own[field] == key for field, key in selection.items())


class PaperTable(_Part):
    """A table of DataFreeShield (Lee et al., ICML 2024), in the paper's layout.

    Attributes:
        id: ``table-1`` to ``table-26``.
        title: what it is about. In our words: our copy of the paper has
            no captions.
        measured: what was done to get its numbers.
        data: the data sets, by name, as the table calls them.
        models: the architectures, by name, as the table calls them.
        fields: what names rows and columns, in words.
        metrics: what its numbers mean, by name.
        settings: of the paper's own method, by the keys of a configuration; what differs between
            models or data sets is given for each.
        lost: what our copy of the paper, text without formulas, does not have, and what is taken
            instead.
        footnotes: what has to be known of printed numbers.
        marks: meaning of the signs behind numbers.
        row_fields: the fields that name a row, which begins with their keys.
        columns: the columns of numbers.
        rows: keys, then a text for each column, as printed.
    """

    id: Annotated[str, Field(pattern=r"^table-\d+$")]
    title: str
    measured: str
    data: dict[str, str] = {}
    models: dict[str, str] = {}
    fields: dict[str, str]
    metrics: dict[str, Metric] = {}
    settings: dict[str, Key | dict[str, Key]] = {}
    lost: tuple[str, ...] = ()
    footnotes: tuple[Footnote, ...] = ()
    marks: dict[str, str] = {}
    row_fields: tuple[str, ...]
    columns: tuple[Column, ...] = ()
    rows: tuple[tuple[Key, ...], ...]

    @property
    def number(self) -> int:
        """Its number in the paper."""
        return int(self.id.removeprefix("table-"))

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """All numbers, row by row; one in brackets follows the one before it."""
        return tuple(cell for row in self.grid for printed in row for cell in printed)

    @cached_property
    def grid(self) -> tuple[tuple[tuple[Cell, ...], ...], ...]:
        """The numbers by row and column: one, or two where the second stands in brackets."""
        return tuple(tuple(self._printed_in(row)) for row in self.rows)

    def select(self, **keys: Key) -> tuple[Cell, ...]:
        """Return the cells that have all of these keys, as `Cell.fits` takes them."""
        return tuple(cell for cell in self.cells if cell.fits(keys))

    def notes_of(self, cell: Cell) -> tuple[int, ...]:
        """Return the numbers, from 1, of the footnotes about a cell."""
        return tuple(
            number
            for number, note in enumerate(self.footnotes, 1)
            if any(cell.fits(selection) for selection in note.cells)
        )

    def label(self, field: str, key: Key) -> str:
        """Return a key as the table prints it."""
        if isinstance(key, bool):
            return "✓" if key else "✗"
        names = {"data": self.data, "model": self.models}.get(field, {})
        return names.get(str(key), str(key))

    def _printed_in(self, row: tuple[Key, ...]) -> Iterator[tuple[Cell, ...]]:
        single = {
            field: next(iter(names))
            for field, names in (("data", self.data), ("model", self.models))
            if len(names) == 1
        }
        named = single | dict(zip(self.row_fields, row, strict=False))
        for column, text in zip(self.columns, row[len(self.row_fields) :], strict=True):
            keys = named | column.keys
            found = _CELL.fullmatch(text) if isinstance(text, str) else None
            if found is None or (found[3] and column.brackets is None):
                raise ValueError(f"{text!r} is no quoted number of a column {column.metric}")
            first = Cell(keys, column.metric, found[1], found[2])
            if column.brackets and found[3]:
                yield first, Cell(keys, column.brackets, found[3])
            else:
                yield (first,)

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        width = len(self.row_fields) + len(self.columns)
        for number, row in enumerate(self.rows, 1):
            if len(row) != width:
                raise ValueError(f"row {number} has {len(row)} entries, not {width}")
        of_columns = {metric for c in self.columns for metric in (c.metric, c.brackets) if metric}
        for what, used, known in (
            ("field", {*self.row_fields, *(f for c in self.columns for f in c.keys)}, self.fields),
            ("metric", of_columns, self.metrics),
            ("mark", {cell.mark for cell in self.cells} - {""}, self.marks),
            ("data set", {c.keys["data"] for c in self.cells if "data" in c.keys}, self.data),
            ("model", {c.keys["model"] for c in self.cells if "model" in c.keys}, self.models),
        ):
            if unknown := used - known.keys():
                raise ValueError(f"the {what} {min(map(str, unknown))!r} is not explained")
        for note in self.footnotes:
            for selection in note.cells:
                if not self.select(**selection):
                    raise ValueError(f"a footnote is about {selection}, which no cell is")
        return self
