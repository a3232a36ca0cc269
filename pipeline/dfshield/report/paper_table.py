"""A table of the paper as text: its layout as Markdown and LaTeX, its cells as CSV and JSON."""

from typing import Any

from dfshield.paper import Cell, Column, PaperTable
from dfshield.report.csv_table import csv_bytes
from dfshield.report.latex import latex_tabular, latex_text, raised


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
    rows = [
        [*map(latex_text, names), *(latex_text(text) + raised(notes) for text, notes in numbers)]
        for names, numbers in table_rows(table)
    ]
    return latex_tabular(
        caption=f"{table.title}. {table.measured}",
        labels=[table.fields[field] for field in table.row_fields],
        headings=table_headings(table),
        rows=rows,
        notes=table_notes(table),
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
