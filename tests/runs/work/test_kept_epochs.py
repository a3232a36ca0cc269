"""Which epoch is kept: the best by the measure, never a collapsed one before one that is not."""

import json

import pytest
from tiny_run import call, events, run_of, succeed, write_config

from dfshield.runs.identity import differences, filled
from dfshield.runs.work.history import best_epoch, kept_epoch

MEASURE = "agreement_ce_mixtures"


def epoch(number, pgd, *, collapsed=False, **scores):
    holdout = {"agreement_clean": 0.5, "agreement_pgd": pgd, "collapsed": collapsed}
    return {"epoch": number, "holdout": {**holdout, **({"scores": scores} if scores else {})}}


def test_the_best_epoch_is_the_first_of_the_best_that_has_not_collapsed():
    history = [
        {"epoch": 0, "update": 0},
        epoch(0, 0.9, collapsed=True),
        epoch(1, 0.3),
        epoch(2, 0.3, **{MEASURE: 0.1}),
        epoch(3, 0.2, **{MEASURE: 0.4}),
    ]
    assert best_epoch(history, "agreement_pgd") == 1
    assert best_epoch(history, MEASURE) == 3
    assert best_epoch(history[:2], "agreement_pgd") == 0
    assert best_epoch(history[:2], MEASURE) is None


def test_histories_of_earlier_releases_kept_the_best_under_pgd():
    history = [epoch(0, 0.9, collapsed=True), epoch(1, 0.3)]
    assert kept_epoch(history, best=True)["epoch"] == 0
    assert kept_epoch(history, best=False)["epoch"] == 1
    assert kept_epoch([*history, {"kept": 1}], best=True)["epoch"] == 1


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that keeps the best epoch by a measure that every epoch has."""
    config = write_config(
        tmp_path_factory.mktemp("kept"),
        training__select="holdout",
        training__measure="agreement_clean",
        training__epochs=4,
    )
    succeed("run", config)
    return config


def test_the_student_of_the_best_epoch_is_kept_and_every_output_knows_which(trained):
    epochs = events(run_of(trained), "epoch")
    best = max(epochs, key=lambda one: one["agreement_clean"])["epoch"]
    history = json.loads((run_of(trained) / "student" / "history.json").read_text())
    assert history[-1] == {"kept": best}
    state = json.loads(succeed("status", run_of(trained), "--json").out)
    assert f'"epoch": {best}' in json.dumps(state)
    page = (run_of(trained) / "report" / "index.html").read_text()
    assert f"epoch {best + 1} of 4" in page


def test_a_run_that_kept_epochs_by_another_measure_is_not_taken_for_this_one(trained):
    refused = call("train", trained, f"training.measure={MEASURE}").refusal()
    assert f"training.measure.name: agreement_clean → {MEASURE}" in refused


def test_records_without_a_measure_mean_the_one_that_there_was():
    before = {"training": {"select": "holdout", "epochs": 20}}
    same = {"training": {"select": "holdout", "epochs": 20, "measure": {"name": "agreement_pgd"}}}
    other = {"training": {"select": "holdout", "epochs": 20, "measure": {"name": MEASURE}}}
    assert differences(before, same) == []
    assert f"training.measure.name: agreement_pgd → {MEASURE}" in differences(before, other)
    assert filled(before)["training"]["measure"] == {"name": "agreement_pgd"}


def test_a_measure_says_nothing_of_a_student_of_the_last_epoch(tmp_path):
    config = write_config(tmp_path, training__measure=MEASURE)
    succeed("run", config)
    student = run_of(config) / "student"
    before = {path: path.stat().st_mtime_ns for path in student.iterdir()}
    assert "measure" not in json.loads((student / "stage.json").read_text())["identity"]["training"]
    succeed("train", config, "training.measure=agreement_pgd")
    assert {path: path.stat().st_mtime_ns for path in student.iterdir()} == before
    holdouts = [e for e in json.loads((student / "history.json").read_text()) if "holdout" in e]
    assert [sorted(e["holdout"].get("scores", {})) for e in holdouts] == [[], [MEASURE]]


def test_a_training_too_short_to_compare_epochs_says_so(tmp_path):
    config = write_config(tmp_path, training__select="holdout", training__measure=MEASURE)
    answer = succeed("run", config)
    assert "training.measure: agreement_ce_mixtures is taken after the last epoch alone" in (
        " ".join(answer.err.split())
    )
