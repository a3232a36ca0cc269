"""Every number of the data files against the paper's text, both ways."""

import os
import re
from pathlib import Path

import pytest

from dfshield.paper import TABLE_IDS, PaperTable, paper_table

NUMBER = re.compile(r"[+-]?\d+(\.\d+)?†?( \([+-]?\d+(\.\d+)?\))?")
EQUATION = re.compile(r"\| \(\d+\) \|")
# The first line of every table, in the paper's order. A table ends where the next begins, or with
# the first line that is none of a table.
FIRST_LINES = [
    "| Model | Method | Tissue | Blood | Path | OrganC |",
    "| Baselines |",
    "| ResNet-18 | ResNet-50 |",
    "| ResNet-20 | ResNet-56 | WRN-28-10 |",
    "| ResNet-20 | ResNet-56 | WRN-28-10 |",
    "| Method | CIFAR-10 Accuracy | Diversity Metric |",
    "| SVHN | CIFAR-10 |",
    "| Model | DSS | GradRefine |",
    "| Gradient-free | Adaptive |",
    "| Single | Iterative Attack | Unbound |",
    "| Dataset | ResNet-18 | ResNet-50 |",
    "| Model | Method | Derma | OCT | OrganA | OrganS |",
    "| ResNet-18 | ResNet-50 |",
    *["| ResNet-20 | ResNet-56 | WRN-28-10 |"] * 4,
    "| Dataset | Data-free | Method | ResNet-18 | ResNet-50 |",
    *["| Accuracy | Diversity Metric |"] * 2,
    *["| Dataset | Model | Modified Attack |"] * 2,
    "| ResNet-20 | WRN-28-10 |",
    "| SVHN | CIFAR-10 |",
    *["| 0 | 0.01 | 0.1 | 1 | 10 | 100 |"] * 2,
]
LOST_NAMES = {"(Proposed)": "L_DFShield", "": "Fixed coefficients"}
"""What the paper's text has left of the names of methods that it has lost, and these names."""

Lines = list[list[str]]


def cells_of(line: str) -> list[str]:
    return [cell for cell in map(str.strip, line.split("|")) if cell]


@pytest.fixture(scope="module")
def printed() -> dict[str, Lines]:
    """The lines of every table as their cells, empty ones left out."""
    path = os.environ.get("DFSHIELD_PAPER")
    if not path:
        pytest.skip("DFSHIELD_PAPER is not set: it names the paper's text")
    tables: list[Lines] = []
    within = False
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        if not line.startswith("|") or EQUATION.match(line):
            within = False
            continue
        cells = cells_of(line)
        first = cells_of(FIRST_LINES[len(tables)]) if len(tables) < len(FIRST_LINES) else None
        if cells == first:
            tables.append([])
            within = True
        assert within, f"a table that no test knows: {line}"
        tables[-1].append(cells)
    return dict(zip(TABLE_IDS, tables, strict=True))


def numbers_of(table: PaperTable) -> list[str]:
    """All numbers of a data file, in the order in which the paper prints them."""
    heads = [str(key) for c in table.columns for key in c.keys.values() if is_number(key)]
    rows = [
        str(entry)
        for row in table.rows
        for place, entry in enumerate(row)
        if place >= len(table.row_fields) or is_number(entry)
    ]
    return heads + rows


def is_number(key: object) -> bool:
    return isinstance(key, int | float) and not isinstance(key, bool)


@pytest.mark.parametrize("table_id", TABLE_IDS)
def test_the_numbers_are_the_paper_s_none_more_none_less(printed, table_id):
    found = [cell for line in printed[table_id] for cell in line if NUMBER.fullmatch(cell)]
    assert numbers_of(paper_table(table_id)) == found


@pytest.mark.parametrize("table_id", TABLE_IDS)
def test_every_row_has_the_paper_s_labels_and_numbers(printed, table_id):
    table, above = paper_table(table_id), heads(printed[table_id], paper_table(table_id))
    lines = [line for line in printed[table_id] if is_row(line, table)]
    count, width = len(table.row_fields), len(table.columns)
    for line, row in zip(lines, table.rows, strict=True):
        labels = {table.label(*pair) for pair in zip(table.row_fields, row, strict=False)}
        told = {LOST_NAMES.get(cell, cell) for cell in line[: len(line) - width]}
        assert told <= labels | set(table.models.values())
        # What a line does not repeat stands above it.
        lost = {label for label in labels if label in LOST_NAMES.values() or "/255" in label}
        assert labels - told <= above | lost
        above |= told
        assert list(row[count:]) == line[len(line) - width :]


@pytest.mark.parametrize("table_id", TABLE_IDS)
def test_columns_stand_in_the_paper_s_order(printed, table_id):
    table = paper_table(table_id)
    keys = [table.label(*item) for column in table.columns for item in column.keys.items()]
    metrics = [table.metrics[column.metric].label for column in table.columns]
    lines = [line for line in printed[table_id] if not is_row(line, table)]
    for line in lines:
        for labels in (keys, metrics):
            ours = [label for label in dict.fromkeys(labels) if label in line]
            assert ours == [cell for cell in line if cell in labels]
    assert set(keys) <= {cell for line in lines for cell in line}


def is_row(line: list[str], table: PaperTable) -> bool:
    """Whether a line has a number for each column, or, of a table without any, a name."""
    if not table.columns:
        return line != ["Baselines"]
    values = line[-len(table.columns) :]
    of_heads = [str(key) for c in table.columns for key in c.keys.values()]
    whole = len(values) == len(table.columns) and values != of_heads
    return whole and all(map(NUMBER.fullmatch, values))


def heads(lines: Lines, table: PaperTable) -> set[str]:
    """Names that stand in a line of their own."""
    return {cell for line in lines if not is_row(line, table) for cell in line}


@pytest.mark.parametrize("table_id", TABLE_IDS)
def test_marks_are_explained_as_in_the_paper(printed, table_id):
    table = paper_table(table_id)
    below = {cell for line in printed[table_id] for cell in line if cell.startswith("†")}
    assert below == {mark + meaning for mark, meaning in table.marks.items()}
