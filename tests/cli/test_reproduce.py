"""The command `reproduce`: a table of the paper, run small, resumed, and put beside the paper's."""

import csv
import json
from io import StringIO
from pathlib import Path

import pytest
from tiny_reproduction import SMALL
from tiny_run import call, stamps, succeed


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs" / "reproduce-smoke"


def trials(here):
    return {path.name: path.stat().st_mtime_ns for path in here.glob("sweeps/cells/trials/*")}


@pytest.mark.slow
def test_a_table_is_run_gone_on_with_and_shared_with_another(here):
    first = succeed("reproduce", "table-8", *SMALL, "--only", "True")
    assert "Table 8, scale smoke" in first.out
    written = here / "reproduced" / "table-8"
    page = (written / "index.html").read_text()
    assert "ResNet-20" not in page.split("<tbody>")[1].split("</tbody>")[0]
    assert "no difference is taken" in page
    assert "Changed: teacher.train.epochs=2, synthesis.method.iterations=1" in page
    assert (written / "table.tex").read_text().startswith("% \\usepackage{booktabs,amssymb}")
    rows = list(csv.DictReader(StringIO((written / "table.csv").read_text())))
    # Three of the ablation's rows have a "True".
    assert {(r["objective"], r["dss"], r["gradrefine"]) for r in rows} == {
        ("True", "False", "False"),
        ("True", "True", "False"),
        ("True", "True", "True"),
    }
    clean = [row for row in rows if row["metric"] == "clean"]
    assert all(0 <= float(row["ours"]) <= 100 for row in clean)
    assert [row["paper"] for row in clean] == ["82.58", "77.83", "74.79"]
    assert all(row["difference"] == "" for row in rows)
    made = trials(here)
    assert len(made) == 3

    # Another table has one of these students: K = 1, which is no GradRefine. One seed more is new.
    told = json.loads(succeed("reproduce", "table-23", *SMALL, "--only", "1", "--json").out)
    assert trials(here) == made
    (row,) = told["rows"]
    assert row["num_batches"] == 1
    assert row["figures"]["clean"]["ours"] == [
        float(r["ours"]) / 100 for r in clean if (r["dss"], r["gradrefine"]) == ("True", "False")
    ]
    # Other settings are another sweep.
    line = call("reproduce", "table-8", *SMALL, "training.epochs=2").refusal()
    assert "training.epochs" in line
    assert "sweep.name=" in line

    # Its whole student meets the attacks of another table.
    told = json.loads(succeed("reproduce", "table-10", *SMALL, "--json").out)
    assert trials(here) == made
    (row,) = told["rows"]
    figures = {metric: figure["ours"] for metric, figure in row["figures"].items()}
    assert figures["clean"] >= figures["single_step"] >= figures["unbounded"]
    assert len(figures) == 7
    index = (here / "reproduced" / "index.html").read_text()
    assert [f"table-{n}/index.html" in index for n in (8, 10, 23, 4)] == [*[True] * 3, False]
    plan = json.loads(succeed("reproduce", "table-8", *SMALL, "--dry-run", "--json").out)
    assert [run["done"] for run in plan["runs"]] == [1, 1, 0, 1, 1, 1]  # two sets, four students
    assert [run["seconds"] > 0 for run in plan["runs"]] == [False, False, True, *[False] * 3]
    assert plan["seconds"] == sum(run["seconds"] for run in plan["runs"])
    assert plan["missing"] == []
    assert plan["files"] == [{"name": "digits", "missing": "", "source": "comes with scikit-learn"}]


def test_teachers_are_measured_behind_a_defence_and_by_themselves(here):
    told = json.loads(succeed("reproduce", "table-3", *SMALL, "--json").out)
    tte, ours = told["rows"]
    assert (tte["method"], ours["method"]) == ("TTE", "Ours")
    assert set(told["missing"]) == {"DAD", "DiffPure"}
    assert "Attacks go through the defences" in told["told"]
    by_itself = json.loads(succeed("reproduce", "table-11", *SMALL, "--json").out)
    (teacher,) = by_itself["rows"]
    files = list(here.glob("sweeps/*/teachers/*/evaluation/**/*.json"))
    results = [read for read in map(json.loads, map(Path.read_text, files)) if "accuracy" in read]
    known = {(bool(r.get("defence")), bool(r.get("attack"))): r["accuracy"] for r in results}
    assert set(known) == {
        (behind, attacked) for behind in (False, True) for attacked in (False, True)
    }
    assert tte["figures"]["clean"]["ours"] == [known[True, False]]
    assert tte["figures"]["pgd10"]["ours"] == [known[True, True]]
    assert teacher["figures"]["clean"]["ours"] == [known[False, False]]
    before = stamps(here / "sweeps")
    succeed("reproduce", "table-11", *SMALL)
    assert stamps(here / "sweeps") == before


def test_the_list_says_what_can_be_run(here):
    told = json.loads(succeed("reproduce", "--json").out)
    listed = told["experiments"]
    assert told["not_run"].keys() == {"table-2", "fig-2"}
    assert {"id": "table-25", "cells": {"smoke": 25, "desk": 36, "paper": 108}}.items() <= {
        **next(each for each in listed if each["id"] == "table-25")
    }.items()
    out = succeed("reproduce").out
    assert "table-4" in out
    assert "Not run: table-2: it has no numbers" in out


def test_all_that_is_missing_is_said_before_anything_is_made(here, monkeypatch, tmp_path):
    monkeypatch.setenv("DFSHIELD_DATA", str(tmp_path / "data"))
    line = call("reproduce", "table-15", "--scale", "desk", "cluster.address=none").refusal()
    for name in ("cifar10_resnet20.th", "cifar10_test.npz", "cifar10_train_5000.npz"):
        assert name in line
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("table-70",), "did you mean 'table-7'"),
        (("table-2",), "table-2: cannot be run: it has no numbers"),
        (("table-7", "--scale", "tiny"), "--scale"),
        (("fig-1", "--scale", "desk"), "--scale: desk has nothing that fig-1 is run on"),
        (("table-7", "--seeds", "a"), "--seeds: 'a': give whole numbers"),
        (("table-7", "--only", "nothing"), "--only: no cell has 'nothing'"),
        (("table-7", "training.epoch=1"), "training.epoch: unknown key"),
        (("all", "--only", "STD"), "--only: goes with one table or figure, not with all"),
    ],
)
def test_what_makes_no_sense_is_one_line(here, args, words):
    assert words in call("reproduce", *args).refusal()


def test_costs_are_listed_with_the_files_that_are_wanted(here, monkeypatch, tmp_path):
    monkeypatch.setenv("DFSHIELD_DATA", str(tmp_path / "data"))
    told = json.loads(succeed("reproduce", "table-18", "--list", "--json").out)
    (one,) = told["experiments"]
    assert one["id"] == "table-18"
    assert one["runs"] == 4  # a set and three students
    assert one["seconds"] > 0
    assert one["missing"] == ["pneumoniamnist"]
    assert one["uncounted"] == ["a training on images that are missing"]
    (file,) = [file for file in told["files"] if file["name"] == "pneumoniamnist"]
    assert file["source"] == "published by MedMNIST, https://medmnist.com"
    assert not Path("runs").exists()
