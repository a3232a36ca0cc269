"""The command ``paper``: tables of the paper, in every form."""

import csv
import io
import json
import re

import pytest
from tiny_run import call, succeed

from dfshield.paper import TABLE_IDS, paper_table
from dfshield.report.paper_table import csv_table, latex_table, markdown_table, table_values


def test_all_tables_are_listed():
    lines = succeed("paper").out.splitlines()
    assert lines == [f"{i}: {paper_table(i).title}" for i in TABLE_IDS]
    listed = json.loads(succeed("paper", "--json").out)
    assert [each["id"] for each in listed] == list(TABLE_IDS)


@pytest.mark.parametrize("table_id", TABLE_IDS)
def test_markdown_and_latex_have_every_printed_number_in_its_row(table_id):
    table = paper_table(table_id)
    markdown, latex = markdown_table(table), latex_table(table)
    rows = [line for line in markdown.splitlines() if line.startswith("| ")][2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    count = len(table.row_fields)
    printed = [[str(text) for text in row[count:]] for row in table.rows]
    assert [[re.sub(r" \[[\d, ]+\]", "", c) for c in row[count:]] for row in cells] == printed
    body = latex.partition("\\midrule\n")[2].partition("\\bottomrule")[0]
    rows = [line.removesuffix(r" \\").split(" & ") for line in body.splitlines()]
    notes = re.compile(r"\\textsuperscript{\[[\d, ]+\]}")
    plain = [[notes.sub("", cell) for cell in row[count:]] for row in rows]
    assert [[cell.replace(r"\textdagger{}", "†") for cell in row] for row in plain] == printed
    for number, note in enumerate(table.footnotes, 1):
        if note.cells:
            assert f"- [{number}] {note.text}" in markdown.splitlines()
    assert latex.count("{") == latex.count("}")
    outside = re.sub(r"\\[&%$#_{}]|^% .*$", "", latex, flags=re.MULTILINE)
    outside = re.sub(r"\$[^$]*\$", "", outside)
    assert not re.search("[#_%^~†λτε✓✗|]", outside), outside


@pytest.mark.parametrize("table_id", TABLE_IDS)
def test_csv_and_json_have_every_cell_with_all_that_names_it(table_id):
    table = paper_table(table_id)
    document = json.loads(json.dumps(table_values(table)))
    cells, lines = document["cells"], list(csv.DictReader(io.StringIO(csv_table(table))))
    for cell, value, line in zip(table.cells, cells, lines, strict=True):
        notes = list(table.notes_of(cell))
        own = {"metric": cell.metric, "value": cell.value, "printed": cell.printed}
        assert value == {**cell.keys, **own, "mark": cell.mark, "notes": notes}
        assert line == {**{k: str(v) for k, v in value.items()}, "notes": " ".join(map(str, notes))}
    assert document["settings"] == table.settings


def test_every_form_is_an_option():
    table = paper_table("table-9")
    for option, expected in (
        ("--markdown", markdown_table(table)),
        ("--latex", latex_table(table)),
        ("--csv", csv_table(table)),
    ):
        assert succeed("paper", "table-9", option).out == expected
    assert json.loads(succeed("paper", "table-9", "--json").out) == table_values(table)


def test_headings_span_the_columns_that_they_are_over():
    latex = succeed("paper", "table-7", "--latex").out
    assert r" & \multicolumn{3}{c}{SVHN} & \multicolumn{3}{c}{CIFAR-10} \\" in latex.splitlines()
    grid = succeed("paper", "table-25", "--markdown").out
    assert "| Model | λ1 | λ2 = 0 AutoAttack (Clean) | λ2 = 0.01 AutoAttack (Clean) |" in grid
    assert "| ResNet-20 | 0 | 0.04 (96.59) |" in grid
    assert "|  | 0.1 | 40.69 (93.12) |" in grid


def test_a_pipe_is_given_markdown_and_a_terminal_a_table(monkeypatch):
    assert succeed("paper", "table-8").out == succeed("paper", "table-8", "--markdown").out
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    shown = succeed("paper", "table-8").out
    assert "┃" in shown
    assert "14.61 (+12.58)" in shown


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["table-44"], "TABLE: 'table-44' is unknown: did you mean 'table-4'?"),
        (["Tabel-9", "--csv"], "TABLE: 'Tabel-9' is unknown: did you mean 'table-9'?"),
        (["--csv"], "--csv: goes with a TABLE, as in dfshield paper table-4 --csv"),
        (
            ["table-4", "--latex", "--csv"],
            "--latex: does not go with --csv: give one of them",
        ),
    ],
)
def test_what_is_wrong_is_one_line(words, told):
    assert call("paper", *words).refusal() == f"Error: {told}"
