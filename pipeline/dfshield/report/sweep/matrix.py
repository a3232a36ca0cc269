"""A sweep over two axes of cases as a matrix: one row and one column for every case."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dfshield.report.sweep.axes import Axis
from dfshield.report.sweep.marks import Raised, marks_of
from dfshield.report.sweep.settings import Measure, Setting, measures_of
from dfshield.report.sweep.trials import SweepData
from dfshield.report.sweep.view import SweepView, view_of


@dataclass(frozen=True)
class Matrix:
    """What every cell came to.

    Attributes:
        rows: the axis whose cases are the rows.
        columns: the axis whose cases are the columns.
        measures: what is told of every cell.
        cells: the settings by the names of row and column; one that was not planned is missing.
    """

    rows: Axis
    columns: Axis
    measures: tuple[Measure, ...]
    cells: Mapping[tuple[str, str], Setting]

    @property
    def lines(self) -> Iterator[tuple[str, Measure, list[str]]]:
        """The table, line by line: the row's name, the figure, and its text in every column."""
        for row in self.rows.values:
            for measure in self.measures:
                texts = [self.text(row, column, measure) for column in self.columns.values]
                yield row, measure, texts

    def text(self, row: str, column: str, measure: Measure) -> str:
        """Return a cell in words: mean and spread in percent, and the signs of its marks."""
        setting = self.cells.get((row, column))
        if setting is None:
            return ""
        figure = setting.figure(measure)
        words = "–" if figure is None else figure.words
        return " ".join([words, *(one.sign for one in marks_of(setting, measure))])

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON value: shares in [0, 1], a list of one per seed for every figure."""
        cells = [
            {
                "row": row,
                "column": column,
                "data_free": setting.data_free,
                "seeds": [trial.seed for trial in setting.done],
                "figures": {
                    m.key: figure.per_seed for m in self.measures if (figure := setting.figure(m))
                },
            }
            for (row, column), setting in self.cells.items()
        ]
        names = {"rows": self.rows, "columns": self.columns}
        axes = {key: {"axis": a.label, "cases": a.values} for key, a in names.items()}
        return {**axes, "cells": cells}

    @property
    def marks(self) -> list[Raised]:
        """All marks in the table."""
        settings = self.cells.values()
        return [one for s in settings for m in self.measures for one in marks_of(s, m)]


def matrix_of(sweep: SweepData | SweepView) -> Matrix | None:
    """Return a sweep as a matrix; None unless its axes are two of cases."""
    view = view_of(sweep) if isinstance(sweep, SweepData) else sweep
    if len(view.axes) != 2 or not all(axis.named for axis in view.axes):
        return None
    rows, columns = view.axes
    cells = {(s.values[rows.key], s.values[columns.key]): s for s in view.settings}
    return Matrix(rows, columns, measures_of(view.data), cells)
