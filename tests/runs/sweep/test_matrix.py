"""A matrix of teachers and data sets: killed, gone on with, and what it shows."""

import csv
import json
import os
import re
import shutil
import signal
from statistics import fmean, stdev

import numpy as np
import pytest
import yaml
from tiny_run import (
    call,
    changed,
    contents,
    events,
    run_of,
    start,
    succeed,
    wait_until,
    write_config,
)
from tiny_sweep import sweep_of, trial_records

from dfshield.datasets import load_images
from dfshield.results import SOME_NOT_DATA_FREE

TEACHERS = {"small": {}, "wide": {"teacher": {"options": {"width": 12}}}}
NUM_IMAGES = 60
DATA = {"name": "npz", "split": "test"}
IMAGES = {
    "original": {"training": {"images": {"data": DATA, "labels": "hard"}, "objective": "std"}},
    "surrogate": {},
    "unlabelled": {"training": {"images": {"data": DATA, "labels": "teacher"}}},
}
NUM_TRIALS = 12


def matrix_config(folder):
    """A matrix whose references are trained on some of the teacher's own images."""
    folder.mkdir(exist_ok=True)
    digits = load_images("digits", split="train")
    pixels = np.rint(255 * digits.pixels[:NUM_IMAGES]).astype(np.uint8)
    np.savez(folder / "own.npz", images=pixels, labels=digits.labels[:NUM_IMAGES])
    images = {name: changed(case) for name, case in IMAGES.items()}
    for name in ("original", "unlabelled"):
        images[name]["training"]["images"]["data"]["path"] = str(folder / "own.npz")
    cases = {"classifier": TEACHERS, "images": images}
    return write_config(folder, sweep__cases=cases, sweep__seeds=[0, 1])


def records(config):
    return {(*r["values"].values(), r["seed"]): r for r in trial_records(config)}


def ended_in(config):
    return {key: record for key, record in records(config).items() if record["state"] != "running"}


@pytest.fixture(scope="module")
def matrix(tmp_path_factory):
    """A matrix that was killed in the middle and is done, and what its last command said."""
    config = matrix_config(tmp_path_factory.mktemp("matrix"))
    process = start("matrix", config)
    wait_until(lambda: len(ended_in(config)) >= 4, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    before = ended_in(config)
    assert 4 <= len(before) < NUM_TRIALS
    answer = succeed("matrix", config)
    assert {key: records(config)[key] for key in before} == before
    return config, answer


@pytest.fixture
def copied(matrix, tmp_path):
    shutil.copytree(run_of(matrix[0]), tmp_path / "runs" / "tiny")
    return write_config(tmp_path, yaml.safe_load(matrix[0].read_text()))


def words(figures):
    """Mean and spread as tables have them."""
    return f"{100 * fmean(figures):.1f} ± {100 * stdev(figures):.1f}"


def test_every_cell_is_a_student_of_its_teacher_and_images_are_made_once_a_teacher(matrix):
    config, _ = matrix
    found = records(config)
    assert set(found) == {(t, i, s) for t in TEACHERS for i in IMAGES for s in (0, 1)}
    assert {record["state"] for record in found.values()} == {"done"}
    assert {record["epochs"] for record in found.values()} == {2}
    (other,) = (sweep_of(config) / "sets").iterdir()
    for folder in (run_of(config), other):
        assert len(events(folder, "synthesis_started")) == 1
        assert (folder / "teacher" / "model.safetensors").exists()
    assert not (run_of(config) / "student").exists()


def test_a_cell_equals_a_run_of_its_own(matrix, tmp_path):
    tree = yaml.safe_load(matrix[0].read_text())
    images = tree.pop("sweep")["cases"]["images"]["unlabelled"]["training"]["images"]
    alone = write_config(tmp_path, tree, teacher__options={"width": 12}, training__images=images)
    succeed("run", alone)
    (trial,) = (sweep_of(matrix[0]) / "trials").glob("classifier-wide_images-unlabelled_seed-0-*")
    for name in ("model.safetensors", "history.json"):
        assert contents(trial / "student")[name] == contents(run_of(alone) / "student")[name]


def test_references_are_told_from_what_is_data_free_wherever_they_show(matrix):
    config, answer = matrix
    for (_, images, _), record in records(config).items():
        assert record.get("data_free", True) is (images == "surrogate")
    assert SOME_NOT_DATA_FREE in answer.out
    page = (sweep_of(config) / "report" / "index.html").read_text()
    assert SOME_NOT_DATA_FREE in page
    with (sweep_of(config) / "results.csv").open() as file:
        told = {(row["cases.images"], row["data_free"]) for row in csv.DictReader(file)}
    assert told == {("original", "false"), ("surrogate", "true"), ("unlabelled", "false")}
    state = json.loads(succeed("status", sweep_of(config), "--json").out)
    assert SOME_NOT_DATA_FREE in state["remarks"]
    assert state["axes"] == {"cases.classifier": list(TEACHERS), "cases.images": list(IMAGES)}
    assert state["best"] is None  # no teacher's student is better than another's
    assert succeed("sweep", config).out.count("†") > 8


def test_table_page_and_json_have_the_figures_of_the_runs(matrix):
    config, answer = matrix
    found = records(config)
    page = (sweep_of(config) / "report" / "index.html").read_text()
    shown = re.findall(r"<td>([\d.]+ ± [\d.]+)( [▼†✕ 0-9/]+)?</td>", page)
    table = page[page.index("<tbody>") : page.index("</tbody>")]
    for teacher in TEACHERS:
        for images in IMAGES:
            for label in ("clean", "PGD-3"):
                seeds = [found[teacher, images, seed]["test"][label] for seed in (0, 1)]
                assert words(seeds) in answer.out
                assert words(seeds) in table
    assert len(shown) >= 12
    told = json.loads(succeed("matrix", config, "--json").out)["matrix"]
    assert told["rows"] == {"axis": "classifier", "cases": list(TEACHERS)}
    assert told["columns"] == {"axis": "images", "cases": list(IMAGES)}
    assert len(told["cells"]) == 6
    for cell in told["cells"]:
        assert cell["data_free"] is (cell["column"] == "surrogate")
        assert cell["seeds"] == [0, 1]
        for label, figures in cell["figures"].items():
            where = (cell["row"], cell["column"])
            assert figures == [found[*where, seed]["test"][label] for seed in (0, 1)]


def test_the_page_has_the_heat_map_and_recommends_nothing(matrix):
    report = sweep_of(matrix[0]) / "report"
    svg = (report / "heatmap-classifier-images.svg").read_text()
    seeds = [records(matrix[0])["wide", "original", seed]["test"]["PGD-3"] for seed in (0, 1)]
    assert words(seeds) in svg
    assert "†" in svg
    page = " ".join((report / "index.html").read_text().split())
    assert "<h1>tiny: sweep: classifier × images</h1>" in page
    assert "none is recommended" in page
    assert page.count("data:image/png;base64,") >= 1


def test_the_same_command_does_nothing_and_a_new_column_is_trained_alone(copied):
    before = records(copied)
    column = "sweep.cases.images.linear.training.objective={name: soft-label, lambda2: 0}"
    succeed("matrix", copied, column)
    after = records(copied)
    assert {key: after[key] for key in before} == before
    assert {key[1] for key in after.keys() - before.keys()} == {"linear"}
    assert len(events(run_of(copied), "synthesis_started")) == 1
    # Without it, its students are no part of the matrix any more.
    told = json.loads(succeed("matrix", copied, "--json").out)
    assert len(told["trials"]) == NUM_TRIALS
    state = json.loads(succeed("status", sweep_of(copied), "--json").out)
    assert (state["total"], state["trials"]["done"]) == (NUM_TRIALS, NUM_TRIALS)


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        (
            "sweep.cases.images.original.training.images.data={name: digits, split: test}",
            "is the split that evaluation.data measures on",
        ),
        ("sweep.cases.images.original.training.images.labels=some", "training.images.labels"),
        ("sweep.cases.images.far.training.images={data: {name: npz, path: no.npz}, labels: hard}",
         "no.npz"),
        ("sweep.parameters.training.gradrefine.tau.grid=[0]", "a matrix has two axes of cases"),
        ("sweep.cases.images.empty=", "sweep.cases: images.empty: the settings of the case"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_and_costs_no_cell(copied, setting, named):
    before = contents(sweep_of(copied) / "trials")
    assert named in call("matrix", copied, setting).refusal()
    assert contents(sweep_of(copied) / "trials") == before


def test_real_images_that_are_nowhere_are_refused_before_anything_is_made(tmp_path):
    nowhere = {"training": {"images": {"data": {**DATA, "path": "no.npz"}, "labels": "teacher"}}}
    cases = {"classifier": {"small": {}}, "images": {"surrogate": {}, "nowhere": nowhere}}
    config = write_config(tmp_path, sweep__cases=cases)
    line = call("matrix", config).refusal()
    assert "training.images.data.path: no.npz: no such file or folder" in line
    assert not (run_of(config) / "synthetic").exists()
    assert not (run_of(config) / "teacher").exists()


def test_references_alone_need_no_surrogate_images(tmp_path):
    tree = yaml.safe_load(matrix_config(tmp_path).read_text())
    images = {"unlabelled": tree.pop("sweep")["cases"]["images"]["unlabelled"]}
    cases = {"classifier": {"small": {}}, "images": images}
    config = write_config(tmp_path, tree, sweep__cases=cases)
    succeed("matrix", config)
    assert not (run_of(config) / "synthetic").exists()
    (record,) = records(config).values()
    assert (record["state"], record["data_free"]) == ("done", False)
