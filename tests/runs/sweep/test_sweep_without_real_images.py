"""A sweep of somebody who has no test images, and what becomes of it when images come later."""

import json
import shutil

import numpy as np
import pytest
from tiny_run import TINY, call, changed, contents, events, run_of, stamps, succeed, write_config
from tiny_sweep import sweep_of, trial_records

from dfshield.unmeasured import UNMEASURED

WITHOUT = changed(TINY, sweep__parameters={"training.gradrefine.tau": {"grid": [0, 0.5]}})
del WITHOUT["evaluation"]["data"]
DIGITS = "evaluation.data.name=digits"


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A configuration whose sweep is done, and what the command said."""
    config = write_config(tmp_path_factory.mktemp("without"), WITHOUT)
    return config, succeed("sweep", config)


@pytest.fixture
def copied(ended, tmp_path):
    config = write_config(tmp_path, WITHOUT)
    shutil.copytree(run_of(ended[0]), run_of(config))
    return config


def students(config):
    files = stamps(sweep_of(config) / "trials")
    return {name: stamp for name, stamp in files.items() if "/student/" in name}


def page_of(config):
    return (sweep_of(config) / "report" / "index.html").read_text()


def test_trials_are_ranked_by_the_holdout_and_every_output_says_what_is_not_known(ended):
    config, answer = ended
    assert all(r["test"] == {} and r["holdout"] for r in trial_records(config))
    scores = (r["holdout"]["agreement_pgd"] for r in trial_records(config))
    first, second = sorted(scores, reverse=True)
    assert answer.out.index(f"{first:.1%}") <= answer.out.rindex(f"{second:.1%}")
    assert answer.out.rstrip().endswith(UNMEASURED)
    assert UNMEASURED in page_of(config)
    state = json.loads(succeed("status", sweep_of(config), "--json").out)
    assert state["remarks"] == [UNMEASURED]
    assert state["best"]["score"] == first
    assert UNMEASURED in succeed("status", sweep_of(config)).out


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["sweep.select_on=test"], "sweep.select_on: test chooses by real images"),
        (["sweep.metric=PGD-3"], "sweep.metric: 'PGD-3' is not measured with select_on holdout"),
        (["sweep.metric=clean"], "known: agreement_clean, agreement_pgd"),
        (["synthesis.num_holdout=0"], "synthesis.num_holdout: the sweep judges trials on them"),
    ],
)
def test_a_metric_that_there_is_none_of_is_refused(ended, overrides, named):
    config, _ = ended
    before = contents(sweep_of(config))
    assert named in call("sweep", config, "sweep.name=other", *overrides).refusal()
    assert not (run_of(config) / "sweeps" / "other").exists()
    assert contents(sweep_of(config)) == before


def test_images_that_come_later_are_measured_and_no_student_is_trained_again(copied):
    trained, before = students(copied), trial_records(copied)
    told = json.loads(succeed("sweep", copied, DIGITS, "--json").out)
    assert told["remarks"] == []
    assert students(copied) == trained
    assert len(events(run_of(copied), "synthesis_started")) == 1
    for old, new in zip(before, trial_records(copied), strict=True):
        assert set(new["test"]) == {"clean", "PGD-3"}
        assert {**old, "test": new["test"]} == {
            **new,
            **{key: old[key] for key in ("seconds", "floor", "collapsed")},
        }
    assert UNMEASURED not in page_of(copied)
    assert "test images of digits" in page_of(copied)

    # From here on the sweep is bound to what it has measured.
    measured = trial_records(copied)
    succeed("sweep", copied, DIGITS)
    assert trial_records(copied) == measured
    line = call("sweep", copied, DIGITS, "evaluation.num_images=30").refusal()
    assert "evaluation.num_images: 40 → 30" in line
    assert "evaluation.data.name: digits → unset" in call("sweep", copied).refusal()


def test_images_that_do_not_fit_cost_nothing(copied, tmp_path):
    file = tmp_path / "large.npz"
    np.savez(file, images=np.zeros((20, 9, 9), np.uint8), labels=np.arange(20) % 10)
    before = trial_records(copied)
    data = ["evaluation.data.name=npz", f"evaluation.data.path={file}"]
    line = call("sweep", copied, *data).refusal()
    assert "evaluation.data" in line
    assert "9x9" in line
    assert trial_records(copied) == before
    state = json.loads(succeed("status", sweep_of(copied), "--json").out)
    assert (state["trials"]["done"], state["remarks"]) == (2, [UNMEASURED])
    assert "training.epochs: 2 → 3" in call("sweep", copied, DIGITS, "training.epochs=3").refusal()
    succeed("sweep", copied, DIGITS, "evaluation.attacks=[]")
    assert all(set(r["test"]) == {"clean"} for r in trial_records(copied))
