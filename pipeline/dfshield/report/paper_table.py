"""A table of the paper as text: its layout as Markdown and LaTeX, its cells as CSV and JSON."""

import re
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from dfshield.paper import Cell, Column, PaperTable
from dfshield.report.csv_table import csv_bytes

_LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "†": r"\textdagger{}",
    "✓": r"\checkmark{}",
    "✗": r"$\times$",
    "λ1": r"$\lambda_1$",
    "λ2": r"$\lambda_2$",
    "τ": r"$\tau$",
    "ε": r"$\varepsilon$",
}


def table_headings(table: PaperTable) -> list[tuple[str, str]]:
    """Return what stands over each column of numbers: what it is of, and its metric."""

    def group(column: Column) -> str:
        named = ((field, table.label(field, key)) for field, key in column.keys.items())
        plain = ("data", "model")
        return ", ".join(f if k in plain else f"{table.fields[k]} = {f}" for k, f in named)

    def metric(column: Column) -> str:
        label = table.metrics[column.metric].label
        brackets = column.brackets and table.metrics[column.brackets].label
        return f"{label} ({brackets})" if brackets else label

    return [(group(column), metric(column)) for column in table.columns]


def table_rows(table: PaperTable) -> list[tuple[list[str], list[tuple[str, str]]]]:
    """Return the rows in the paper's layout: labels, then numbers, each with its footnotes.

    Numbers are as printed; their footnotes are like ``"[1, 2]"``, or empty. The first of several
    labels is empty where it is that of the row before.
    """

    def printed(text: object, cells: tuple[Cell, ...]) -> tuple[str, str]:
        notes = sorted({note for cell in cells for note in table.notes_of(cell)})
        return str(text), f"[{', '.join(map(str, notes))}]" if notes else ""

    rows, above = [], ""
    for row, cells in zip(table.rows, table.grid, strict=True):
        labels = [table.label(*pair) for pair in zip(table.row_fields, row, strict=False)]
        repeated, above = len(labels) > 1 and labels[0] == above, labels[0]
        shown = ["", *labels[1:]] if repeated else labels
        rows.append((shown, list(map(printed, row[len(labels) :], cells))))
    return rows


def table_notes(table: PaperTable) -> list[tuple[str, str]]:
    """Return the lines below a table, each with its sign: a footnote's number, a mark, or none.

    Footnotes come first, then the meaning of marks, then what our copy of the paper lacks.
    """
    return [
        *((f"[{n}]" if note.cells else "", note.text) for n, note in enumerate(table.footnotes, 1)),
        *((mark, f"{meaning}.") for mark, meaning in table.marks.items()),
        *(("", f"Not in our copy of the paper: {lost}") for lost in table.lost),
    ]


def markdown_table(table: PaperTable) -> str:
    """Return a table of the paper in Markdown, with its footnotes below."""
    labels = [table.fields[field] for field in table.row_fields]
    headings = [" ".join(filter(None, heading)) for heading in table_headings(table)]
    rows = [
        [*names, *(" ".join(filter(None, number)) for number in numbers)]
        for names, numbers in table_rows(table)
    ]
    rules = ["---"] * len(labels) + ["---:"] * len(headings)
    lines = [f"| {' | '.join(cells)} |" for cells in ([*labels, *headings], rules, *rows)]
    notes = [" ".join(filter(None, ("-", *note))) for note in table_notes(table)]
    title = f"**Table {table.number}.** {table.title}. {table.measured}"
    return "\n".join([title, "", *lines, "", *notes, ""])


def latex_table(table: PaperTable) -> str:
    """Return a table of the paper in LaTeX; it needs the packages booktabs and amssymb."""
    labels, headings = [table.fields[f] for f in table.row_fields], table_headings(table)
    rows = [
        [*map(_latex, names), *(_latex(text) + _raised(notes) for text, notes in numbers)]
        for names, numbers in table_rows(table)
    ]
    return "\n".join(
        [
            "% \\usepackage{booktabs,amssymb}",
            r"\begin{table}",
            rf"\caption{{{_latex(f'{table.title}. {table.measured}')}}}",
            rf"\begin{{tabular}}{{{'l' * len(labels)}{'r' * len(headings)}}}",
            r"\toprule",
            *_spanning(headings, after=len(labels)),
            _line([*map(_latex, labels), *(_latex(metric) for _, metric in headings)]),
            r"\midrule",
            *map(_line, rows),
            r"\bottomrule",
            r"\end{tabular}",
            *(rf"\par\footnotesize {_raised(s)}{_latex(text)}" for s, text in table_notes(table)),
            r"\end{table}",
            "",
        ]
    )


def csv_table(table: PaperTable) -> str:
    """Return the cells of a table as CSV, a line each: what it is of, metric, value, as printed."""
    keys = dict.fromkeys(key for cell in table.cells for key in cell.keys)
    columns = [*keys, "metric", "value", "printed", "mark", "notes"]
    cells = table_values(table)["cells"]
    rows = ({**cell, "notes": " ".join(map(str, cell["notes"]))} for cell in cells)
    return csv_bytes(rows, columns).decode()


def table_values(table: PaperTable) -> dict[str, Any]:
    """Return a table as nested values for JSON: what is known of it, and its cells one by one."""
    told = table.model_dump(mode="json", exclude={"footnotes", "row_fields", "columns", "rows"})
    cells = [
        {
            **cell.keys,
            "metric": cell.metric,
            "value": cell.value,
            "printed": cell.printed,
            "mark": cell.mark,
            "notes": list(table.notes_of(cell)),
        }
        for cell in table.cells
    ]
    return {**told, "footnotes": [note.text for note in table.footnotes], "cells": cells}


def _latex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in re.findall(r"λ\d|.", text))


def _raised(sign: str) -> str:
    return rf"\textsuperscript{{{_latex(sign)}}}" if sign else ""


def _line(cells: Sequence[str]) -> str:
    return f"{' & '.join(cells)} \\\\"


def _spanning(headings: Sequence[tuple[str, str]], *, after: int) -> list[str]:
    """Return the line of headings that span columns, if there are any."""
    if not any(group for group, _ in headings):
        return []
    spans = [(group, len(list(run))) for group, run in groupby(headings, key=lambda h: h[0])]
    cells = [rf"\multicolumn{{{width}}}{{c}}{{{_latex(group)}}}" for group, width in spans]
    return [_line([""] * after + cells)]
