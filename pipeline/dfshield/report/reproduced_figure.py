"""Figures of the paper, drawn of what was run here."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dfshield.brief import Brief
from dfshield.canonical import json_text
from dfshield.report.csv_table import csv_bytes
from dfshield.report.sweep import SweepData
from dfshield.report.templating import environment


@dataclass(frozen=True, eq=False, repr=False)
class Panel(Brief):
    """One picture of a figure.

    Attributes:
        name: of its files; what it is of, where there are several.
        alt: for those who do not see it.
        png: the picture.
        svg: likewise.
        csv: its numbers.
    """

    name: str
    alt: str
    png: bytes
    svg: bytes
    csv: bytes


Drawn = tuple[Sequence[Panel], Sequence[str]]
"""Pictures of a figure, and what they say in numbers."""


@dataclass(frozen=True, eq=False, repr=False)
class ReproducedFigure(Brief):
    """A figure of the paper, drawn here.

    Attributes:
        id: ``fig-4``.
        heading: ``Figure 4``.
        title: what it shows, in a line.
        shows: what was done to get it, and what is drawn.
        scale: ``smoke``, ``desk`` or ``paper``.
        notes: what is smaller than in the paper, and what was taken for what is not known.
        findings: what the pictures say in numbers, a line each.
        panels: the pictures.
        command: that draws it.
    """

    id: str
    heading: str
    title: str
    shows: str
    scale: str
    notes: tuple[str, ...]
    findings: tuple[str, ...]
    panels: tuple[Panel, ...]
    command: str

    @property
    def files(self) -> dict[str, bytes]:
        """All that is written of it, by name; ``index.html`` needs none of the others."""
        page = environment().get_template("reproduced_figure.html.j2").render(found=self)
        files = {"index.html": page.encode(), "figure.json": json_text(self.to_json()).encode()}
        for panel in self.panels:
            files |= {f"{panel.name}.{form}": getattr(panel, form) for form in _FORMS}
        return files

    def to_json(self) -> dict[str, Any]:
        """Return what is told of it as nested values for JSON; its numbers are in CSV files."""
        return {
            "id": self.id,
            "title": self.title,
            "scale": self.scale,
            "notes": list(self.notes),
            "findings": list(self.findings),
            "files": [f"{panel.name}.{form}" for panel in self.panels for form in _FORMS],
        }


_FORMS = ("png", "svg", "csv")


def students_table(data: SweepData, words: Mapping[str, str]) -> bytes:
    """Return a CSV with a line for every student: what it is of, seed, state, figures in percent.

    Args:
        data: the students, by what they are of.
        words: the heading of every swept key.
    """
    labels = list(dict.fromkeys(label for trial in data.trials for label in trial.test))
    return csv_bytes(_lines(data, words, labels), [*words.values(), "seed", "state", *labels])


def _lines(
    data: SweepData, words: Mapping[str, str], labels: list[str]
) -> Iterator[dict[str, Any]]:
    for trial in data.trials:
        keys = {heading: trial.values[key] for key, heading in words.items()}
        measured = {label: trial.test.get(label) for label in labels}
        percent = {k: None if v is None else round(100 * v, 4) for k, v in measured.items()}
        yield {**keys, "seed": trial.seed, "state": trial.state, **percent}
