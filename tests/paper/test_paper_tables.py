"""The data files of the paper's tables, and what reads them."""

import re
from importlib.resources import files
from itertools import pairwise

import pytest
import yaml
from pydantic import ValidationError

from dfshield.config import config_from
from dfshield.errors import InputError
from dfshield.paper import TABLE_IDS, paper_table, read_table
from dfshield.report.sweep.axes import as_number
from dfshield.runs.identity import flatten
from dfshield.training import SoftLabelObjective

TEXT = (files("dfshield.paper") / "tables" / "table-8.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("table_id", TABLE_IDS)
def test_a_table_says_what_it_is_of(table_id):
    table = paper_table(table_id)
    assert table.id == table_id
    assert table.title
    assert table.measured.endswith(".")
    assert {"data", "model", "metric", "value", "printed"}.isdisjoint(table.metrics)
    for cell in table.cells:
        assert {"data", "model"} <= cell.keys.keys()
    assert {c.metric for c in table.cells} == set(table.metrics)
    assert {str(c.keys["data"]) for c in table.cells} == set(table.data)
    assert {str(c.keys["model"]) for c in table.cells} == set(table.models)


def test_a_cell_is_found_by_what_it_is_of():
    table = paper_table("table-4")
    (cell,) = table.select(data="svhn", method="Ours", model="wrn28_10", metric="autoattack")
    assert (cell.printed, cell.value, cell.mark) == ("62.66", 62.66, "")
    assert [table.footnotes[n - 1].text[:29] for n in table.notes_of(cell)] == [
        "Without GradRefine table 7 ha"
    ]
    (marked,) = table.select(data="cifar100", method="DaST", model="resnet20", metric="clean")
    assert (marked.printed, marked.value, marked.mark) == ("01.01", 1.01, "†")
    assert table.notes_of(marked) == ()


def test_a_number_in_brackets_is_a_cell_of_its_own():
    both = paper_table("table-26").select(model="resnet56", lambda1=10, lambda2=0.01)
    assert [(c.metric, c.value) for c in both] == [("autoattack", 26.22), ("clean", 74.67)]
    (gain,) = paper_table("table-19").select(model="resnet56", method="+ CutMix", metric="gain")
    assert (gain.printed, gain.value) == ("-1.00", -1.0)


def test_accuracies_are_percentages_and_what_cannot_be_has_a_footnote():
    odd = 0
    for table in map(paper_table, TABLE_IDS):
        by_place = {}
        for cell in table.cells:
            low, high = {
                "percent": (0, 100),
                "points": (-100, 100),
                "share": (0, 1),
                "count": (0, 100),
                "nats": (0, 0.6932),
            }[table.metrics[cell.metric].unit]
            assert low <= cell.value <= high
            by_place.setdefault(tuple(cell.keys.items()), {})[cell.metric] = cell
        for cells in by_place.values():
            order = [cells[m] for m in ("clean", "pgd10", "autoattack") if m in cells]
            for weaker, stronger in pairwise(order):
                if stronger.value > weaker.value:
                    odd += 1
                    assert table.notes_of(stronger), (table.id, stronger)
    assert odd == 9


@pytest.mark.parametrize("table_id", ["table-8", "table-16", "table-17", "table-19", "table-20"])
def test_gains_are_differences_but_for_one_which_has_a_footnote(table_id):
    table = paper_table(table_id)
    for gain in table.select(metric="gain"):
        (own,) = table.select(**{**gain.keys, "metric": "autoattack"})
        rows = table.select(model=gain.keys["model"], metric="autoattack")
        others = [cell.value for cell in rows if cell != own]
        over_best = table.metrics["gain"].meaning.endswith("the best other objective")
        over = max(others) if over_best else rows[0].value
        if abs(own.value - over - gain.value) > 0.005:
            (note,) = table.notes_of(gain)
            assert table.footnotes[note - 1].text.startswith("Wrong sign")


@pytest.mark.parametrize("table_id", [i for i in TABLE_IDS if paper_table(i).settings])
def test_settings_are_those_of_the_presets(table_id):
    table = paper_table(table_id)
    settings = dict(table.settings)
    preset = settings.pop("preset")
    assert [settings.pop(f"training.objective.{key}", 1.0) for key in ("lambda1", "lambda2")] == [
        SoftLabelObjective().lambda1,
        SoftLabelObjective().lambda2,
    ]
    if settings.get("training.gradrefine.num_batches") == 1:  # without GradRefine
        del settings["training.gradrefine.num_batches"]
    for data in table.data:
        for model in table.models:
            source = f"medmnist:{model}" if data.endswith("mnist") else f"pytorchcv:{model}_{data}"
            config = config_from(
                {
                    "name": "run",
                    "preset": preset[data] if isinstance(preset, dict) else preset,
                    "teacher": {"source": source, "weights": "weights.pt"},
                }
            )
            known = dict(flatten(config.model_dump(mode="json")))
            for key, value in settings.items():
                expected = value[model] if isinstance(value, dict) else value
                assert as_number(known[key]) == as_number(expected), key
                assert as_number(expected) is not None or known[key] == expected, key


def test_tables_are_immutable():
    with pytest.raises(ValidationError, match="frozen"):
        paper_table("table-1").title = "mine"


def test_an_unknown_table_is_one_line_with_the_nearest():
    with pytest.raises(InputError) as caught:
        paper_table("table4")
    assert str(caught.value) == "TABLE: 'table4' is unknown: did you mean 'table-4'?"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("settings:", "setings:", "setings: Extra inputs are not permitted"),
        ('"86.42"', "86.42", "86.42 is no quoted number of a column clean"),
        ('"86.42"', '"none"', "'none' is no quoted number of a column clean"),
        ('"86.42"', '"86.42 (+1.00)"', "is no quoted number of a column clean"),
        ('"86.42", ', "", "row 1 has 5 entries, not 6"),
        ('"86.42"', '"86.42†"', "the mark '†' is not explained"),
        ("[resnet20, false", "[resnet8, false", "the model 'resnet8' is not explained"),
        ("{metric: clean}", "{metric: claen}", "the metric 'claen' is not explained"),
        ("row_fields: [model,", "row_fields: [modl,", "the field 'modl' is not explained"),
        ("{objective: false,", "{objective: 3,", "a footnote is about"),
        ("unit: points", "unit: yards", "metrics.gain.unit: Input should be"),
        ("id: table-8", "id: table-8\nid: [", "not YAML: "),
    ],
)
def test_a_file_that_is_no_table_is_refused_in_one_line(old, new, told):
    assert old in TEXT
    with pytest.raises(InputError, match=r"^mine\.yaml: ") as caught:
        read_table(TEXT.replace(old, new, 1), source="mine.yaml")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_files_are_plain_yaml_that_needs_nothing_of_ours():
    for table_id in TABLE_IDS:
        text = (files("dfshield.paper") / "tables" / f"{table_id}.yaml").read_text("utf-8")
        assert re.match(r"# Table \d+ of DataFreeShield .*\n# dfshield paper table-\d+\n", text)
        rows = yaml.safe_load(text)["rows"]
        assert rows == [list(row) for row in paper_table(table_id).rows]
