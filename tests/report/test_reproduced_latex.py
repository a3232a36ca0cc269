"""Our tables in LaTeX: in the paper's layout where it compares, else a line a student."""

import re

import pytest

from dfshield.paper import paper_table
from dfshield.report.reproduced import ReproducedTable, latex_page
from dfshield.report.reproduced_row import Figure, Row
from dfshield.report.sweep import Pooled

TABLE = paper_table("table-4")


def reproduced(*, compares: bool) -> ReproducedTable:
    """Return table 4 with one student, 60 % under AutoAttack with two seeds, PGD not measured."""
    data, model = ("cifar10", "resnet20") if compares else ("digits", "resnet8")
    figures = (
        Figure("pgd10", "percent", None, "29.29", (), compares),
        Figure("autoattack", "percent", Pooled((0.59, 0.61)), "22.00", (1,), compares),
    )
    row = Row({"method": "Ours", "data": data, "model": model}, figures, ("collapsed",), "done")
    told = "Smaller & faster: 10 %."
    return ReproducedTable(TABLE, "desk", told, (row,), {}, "dfshield reproduce")


def body(text: str) -> list[list[str]]:
    """Return the cells of the lines between the rules."""
    (lines,) = re.findall(r"\\midrule\n(.*)\n\\bottomrule", text, re.DOTALL)
    return [line.removesuffix(r" \\").split(" & ") for line in lines.split("\n")]


@pytest.mark.parametrize("compares", [True, False])
def test_lines_have_a_cell_for_every_column(compares):
    text = latex_page(reproduced(compares=compares))
    (columns,) = re.findall(r"\\begin\{tabular\}\{(\w+)\}", text)
    assert {len(row) for row in body(text)} == {len(columns)}
    unescaped = re.sub(r"\\[{}]", "", text)
    assert unescaped.count("{") == unescaped.count("}")
    assert r"Smaller \& faster: 10 \%." in text


def test_the_layout_is_the_papers_where_it_compares():
    text = latex_page(reproduced(compares=True))
    rows = body(text)
    assert len(rows) == len(TABLE.rows)
    cells = [cell for row in rows for cell in row]
    # Ours with its spread, theirs with its footnote, the difference; theirs alone elsewhere.
    assert r"60.0 $\pm$ 1.4 (22.00 [1], +38.0)" in cells
    assert "-- (29.29, --)" in cells
    assert f"-- ({TABLE.select(method='Ours', data='svhn', metric='clean')[0].printed})" in cells


def test_of_a_stand_in_every_student_is_a_line():
    text = latex_page(reproduced(compares=False))
    ((*names, _, _, _, ours, theirs, difference, said),) = body(text)
    assert "digits" in names
    assert (ours, theirs, difference) == (r"60.0 $\pm$ 1.4", "22.00 [1]", "--")
    assert said == "collapsed"
    assert r"\multicolumn{3}{c}{AutoAttack}" in text
