"""A student of a reproduced table: its numbers beside the printed ones."""

from collections.abc import Sequence
from dataclasses import dataclass

from dfshield.paper.table import Keys
from dfshield.report.sweep import Pooled


@dataclass(frozen=True)
class Figure:
    """One number of a table.

    Attributes:
        metric: its name in the table.
        unit: of it, as `Metric.unit`.
        ours: over the seeds, percentages as shares in [0, 1]; None where it was not measured.
        theirs: as the paper prints it; None where it has no such cell.
        notes: numbers of the paper's footnotes about theirs.
        compares: whether both are of the same data set and model, so that the difference says
            something.
    """

    metric: str
    unit: str
    ours: Pooled | None
    theirs: str | None
    notes: tuple[int, ...]
    compares: bool

    @property
    def difference(self) -> float | None:
        """Ours less theirs, in the unit of the table: of percentages, points."""
        if self.ours is None or self.theirs is None or not self.compares:
            return None
        return self._in_unit(self.ours.mean) - float(self.theirs)

    @property
    def words(self) -> tuple[str, str, str]:
        """Ours with its spread, theirs with its footnotes, and the difference; "–" for none."""
        theirs = "–" if self.theirs is None else self.theirs
        theirs += f" [{', '.join(map(str, self.notes))}]" if self.notes else ""
        ours, spread = self.mean, self.spread
        ours = f"{ours} ± {spread}" if spread else ours or "–"
        difference = self.difference
        return ours, theirs, "–" if difference is None else self.formatted(difference, sign="+")

    @property
    def mean(self) -> str:
        """Ours as the table writes such numbers; empty where it was not measured."""
        return "" if self.ours is None else self.formatted(self._in_unit(self.ours.mean))

    @property
    def spread(self) -> str:
        """The standard deviation over the seeds likewise; empty for one seed."""
        spread = None if self.ours is None else self.ours.spread
        return "" if spread is None else self.formatted(self._in_unit(spread))

    def _in_unit(self, value: float) -> float:
        return 100 * value if self.unit == "percent" else value

    def formatted(self, value: float, *, sign: str = "") -> str:
        """Return a number in the unit of the table as it writes such numbers."""
        digits = {"percent": 1, "points": 1, "count": 0}.get(self.unit, 3)
        return f"{value:{sign}.{digits}f}"


@dataclass(frozen=True)
class Row:
    """One student of a table.

    Attributes:
        keys: what it is of, by the table's fields.
        figures: one for every metric that is measured.
        flags: what has to be said of it: ``collapsed``, ``below the floor``, ``not data-free``.
        state: ``done``, how many seeds are, or why one failed.
    """

    keys: Keys
    figures: tuple[Figure, ...]
    flags: tuple[str, ...]
    state: str


def pooled(values: Sequence[float | None]) -> Pooled | None:
    """Return the figures of several seeds together; None where none is known."""
    known = tuple(value for value in values if value is not None)
    return Pooled(known) if known else None
