"""Tables of the paper beside the same ones run here: ours, theirs, and the difference."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dfshield.brief import Brief
from dfshield.canonical import json_text
from dfshield.experiments import Scale
from dfshield.paper import Cell, PaperTable
from dfshield.report.csv_table import csv_bytes
from dfshield.report.latex import latex_tabular, latex_text
from dfshield.report.paper_table import table_headings, table_rows
from dfshield.report.reproduced_row import Row
from dfshield.report.templating import environment


@dataclass(frozen=True, repr=False)
class ReproducedTable(Brief):
    """A table of the paper, run here.

    Attributes:
        table: the paper's.
        scale: ``smoke``, ``desk`` or ``paper``.
        told: what is smaller than in the paper.
        rows: one a student.
        missing: keys of the paper's table that are not run, with the reason.
        command: that runs it.
        images: what numbers of surrogate images depend on, in a sentence; empty without any.
    """

    table: PaperTable
    scale: str
    told: str
    rows: tuple[Row, ...]
    missing: Mapping[str, str]
    command: str
    images: str = ""

    @property
    def fields(self) -> tuple[str, ...]:
        """What names a row, in the order of the table's own fields, then data set and model."""
        own = [field for field in self.table.fields if field not in ("data", "model")]
        return ("data", "model", *own)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that are measured."""
        return tuple(figure.metric for figure in self.rows[0].figures) if self.rows else ()

    @property
    def compared(self) -> bool:
        """Whether any of it is run on a data set and a model of the paper."""
        return any(f.compares for row in self.rows for f in row.figures)

    def beside(self, cell: Cell) -> str:
        """Return a printed number with ours before it: ``61.2 (62.66, -1.5)``."""
        for row in self.rows:
            if all(row.keys.get(field) == key for field, key in cell.keys.items()):
                for figure in row.figures:
                    if figure.metric == cell.metric:
                        ours, theirs, difference = figure.words
                        return f"{ours} ({theirs}, {difference})"
        return f"– ({cell.printed})"

    @property
    def names(self) -> list[str]:
        """The fields in words."""
        words = {"data": "Data set", "model": "Model", **self.table.fields}
        return [words[field] for field in self.fields]

    @property
    def headings(self) -> list[str]:
        """Over the columns: the fields, three for every metric, and what has to be said."""
        labels = [self.table.metrics[metric].label for metric in self.metrics]
        numbers = [f"{label}, {what}" for label in labels for what in ("ours", "paper", "Δ")]
        return [*self.names, *numbers, ""]

    def labels(self, row: Row) -> list[str]:
        """Return the keys of a row as the table prints them."""
        return [self.table.label(field, row.keys[field]) for field in self.fields]

    def said(self, row: Row) -> str:
        """Return what has to be said of a row: its flags, and how far it is unless it is done."""
        return ", ".join([*row.flags, *([] if row.state == "done" else [row.state])])

    @property
    def lines(self) -> Iterator[list[str]]:
        """The rows as texts, under the headings."""
        for row in self.rows:
            numbers = [text for figure in row.figures for text in figure.words]
            yield [*self.labels(row), *numbers, self.said(row)]

    @property
    def notes(self) -> list[str]:
        """What stands below: what is smaller, what is not run, the paper's footnotes."""
        apart = "The paper's figures are of other data and another model: no difference is taken."
        unrun = [f"Not run: {key} ({reason})." for key, reason in self.missing.items()]
        printed = [f"[{n}] {note.text}" for n, note in enumerate(self.table.footnotes, 1)]
        told = [self.told, *([self.images] if self.images else [])]
        return [*told, *([] if self.compared else [apart]), *unrun, *printed]

    @property
    def files(self) -> dict[str, bytes]:
        """All that is written of it, by name; ``index.html`` needs none of the others."""
        return {
            "index.html": html_page(self).encode(),
            "table.md": markdown_page(self).encode(),
            "table.csv": csv_page(self),
            "table.tex": latex_page(self).encode(),
            "table.json": json_text(self.to_json()).encode(),
        }

    def to_json(self) -> dict[str, Any]:
        """Return the table as nested values for JSON; ours as shares in [0, 1], one a seed."""
        rows = [
            {
                **{field: row.keys[field] for field in self.fields},
                "state": row.state,
                "flags": list(row.flags),
                "figures": {
                    f.metric: {
                        "ours": list(f.ours.per_seed) if f.ours else [],
                        "paper": None if f.theirs is None else float(f.theirs),
                        "difference": f.difference,
                    }
                    for f in row.figures
                },
            }
            for row in self.rows
        ]
        return {
            "id": self.table.id,
            "title": self.table.title,
            "scale": self.scale,
            "told": self.told,
            "missing": dict(self.missing),
            "rows": rows,
        }


def markdown_page(found: ReproducedTable) -> str:
    """Return the table in Markdown, with its notes."""
    headings = found.headings
    rules = ["---"] * len(found.fields) + ["---:"] * (len(headings) - len(found.fields) - 1)
    lines = [headings, [*rules, "---"], *found.lines]
    title = f"**Table {found.table.number}, scale {found.scale}.** {found.table.title}"
    notes = [f"- {note}" for note in found.notes]
    body = [f"| {' | '.join(cells)} |" for cells in lines]
    return "\n".join([title, "", *body, "", *notes, "", f"    {found.command}", ""])


def html_page(found: ReproducedTable) -> str:
    """Return the table as one page that loads nothing."""
    return environment().get_template("reproduced.html.j2").render(found=found)


def latex_page(found: ReproducedTable) -> str:
    """Return the table in LaTeX, which needs the packages booktabs and amssymb.

    In the paper's layout, each number as ours (theirs, difference), where it is run on the paper's
    own data sets and models; else a line for every student, with three columns for every metric.
    """
    layout = _printed_layout if found.compared else _own_layout
    labels, headings, rows = layout(found)
    return latex_tabular(
        caption=f"Table {found.table.number}, scale {found.scale}. {found.table.title}.",
        labels=labels,
        headings=headings,
        rows=[list(map(latex_text, row)) for row in rows],
        notes=[*(("", note) for note in found.notes), ("", found.command)],
    )


Layout = tuple[list[str], list[tuple[str, str]], list[list[str]]]
"""Heads of the labels, headings of the numbers, and rows of both."""


def _printed_layout(found: ReproducedTable) -> Layout:
    table = found.table
    labels = [table.fields[field] for field in table.row_fields]
    rows = [
        [*names, *(" ".join(found.beside(cell) for cell in cells) for cells in numbers)]
        for (names, _), numbers in zip(table_rows(table), table.grid, strict=True)
    ]
    return labels, table_headings(table), rows


def _own_layout(found: ReproducedTable) -> Layout:
    spans = [found.table.metrics[metric].label for metric in found.metrics]
    headings = [(span, what) for span in spans for what in ("ours", "paper", "Δ")]
    return found.names, [*headings, ("", "")], list(found.lines)


def index_page(scale: Scale, entries: Sequence[tuple[str, str, str]]) -> str:
    """Return a page with a link to all that has been run at a scale: id, heading and title each."""
    template = environment().get_template("reproduced_index.html.j2")
    return template.render(scale=scale, entries=entries)


def csv_page(found: ReproducedTable) -> bytes:
    """Return the numbers as CSV: a line for every student and metric."""
    columns = (*found.fields, "metric", "ours", "spread", "seeds", "paper", "difference", "flags")
    return csv_bytes(_csv_rows(found), columns)


def _csv_rows(found: ReproducedTable) -> Iterator[dict[str, Any]]:
    for row in found.rows:
        for figure in row.figures:
            difference = figure.difference
            yield {
                **{field: row.keys[field] for field in found.fields},
                "metric": figure.metric,
                "ours": figure.mean,
                "spread": figure.spread,
                "seeds": 0 if figure.ours is None else len(figure.ours.per_seed),
                "paper": figure.theirs,
                "difference": None if difference is None else figure.formatted(difference),
                "flags": " ".join(row.flags),
            }
