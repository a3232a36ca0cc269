"""A sweep over methods: baselines beside the run's own, one of which fails."""

import json

import pytest
from tiny_run import events, run_of, succeed, write_config

from dfshield.config import load_config
from dfshield.errors import InputError
from dfshield.runs.sweep.plan import listed_trials, make_trial

DFME = {"name": "dfme", "query_budget": 7 * 12 * 3, "batch_size": 12, "width": 4, "latent": 4}
CASES = {
    "ours": {},
    "dfme": {"method": DFME},
    "fails": {"method": {"name": "dast", "batch_size": 4, "width": 4}},
}
QUICK = {
    "training__inner": {"num_steps": 1},
    "evaluation__num_images": 20,
    "evaluation__attacks": [{"name": "pgd", "num_steps": 1}],
}


def trials_of(run):
    files = (run / "sweeps" / "sweep" / "trials").glob("*/trial.json")
    records = [json.loads(file.read_text()) for file in files]
    return {record["values"]["cases.method"]: record for record in records}


def sweep_config(tiny, cases, **changes):
    return tiny(keep=("teacher", "synthetic"), **QUICK, sweep__cases={"method": cases}, **changes)


def test_methods_are_compared_and_one_that_fails_is_a_result(tiny):
    config = sweep_config(tiny, CASES)
    answer = succeed("sweep", config)
    run = run_of(config)
    found = trials_of(run)
    assert {name: record["state"] for name, record in found.items()} == {
        "ours": "done",
        "dfme": "done",
        "fails": "failed",
    }
    assert "4 images cannot be shared out to 10 branches" in found["fails"]["reason"]
    assert found["ours"]["holdout"]
    assert (found["dfme"]["holdout"], found["dfme"]["epochs"]) == ({}, 1)
    assert set(found["dfme"]["test"]) == set(found["ours"]["test"]) == {"clean", "PGD-1"}
    assert not events(run, "synthesis_started")  # the set of the run was there
    (folder,) = (run / "sweeps" / "sweep" / "trials").glob("method-dfme*")
    assert not (folder / "synthetic").exists()
    told = json.loads((folder / "student" / "stage.json").read_text())["summary"]["baseline"]
    assert (told["queries"], told["num_queries"]) == ("logits", 252)
    assert "dfme" in answer.out
    assert "dfme" in (run / "sweeps/sweep/report/index.html").read_text()


@pytest.mark.drill
def test_a_sweep_of_baselines_alone_makes_no_surrogate_images(tiny):
    cases = {"one": {"method": DFME}, "other": {"method": {**DFME, "init": "scratch"}}}
    config = sweep_config(tiny, cases)
    (run_of(config) / "synthetic" / "manifest.json").unlink()
    succeed("sweep", config)
    assert {record["state"] for record in trials_of(run_of(config)).values()} == {"done"}
    assert not (run_of(config) / "synthetic" / "manifest.json").exists()


def test_an_option_of_a_method_is_an_axis_like_any_other(tmp_path):
    grid = {"method.batch_size": {"grid": [12, 13]}}
    config = load_config(write_config(tmp_path, method=DFME, sweep__parameters=grid))
    found = [trial.config.method.options for trial in listed_trials(config)]
    assert [options["batch_size"] for options in found] == [12, 13]
    assert {options["width"] for options in found} == {4}
    named = make_trial(config, {"method.name": "dfard"}, None).config.method
    assert (named.name, named.options["width"]) == ("dfard", 384)


@pytest.mark.parametrize(
    ("sweep", "key"),
    [
        ({"scheduler": "asha"}, "scheduler"),
        (
            {"search": "tpe", "max_trials": 3, "parameters": {"training.epochs": {"grid": [1, 2]}}},
            "search",
        ),
    ],
)
def test_what_judges_by_a_holdout_is_refused(tmp_path, sweep, key):
    cases = {"method": {"ours": {}, "dfme": {"method": DFME}}}
    config = load_config(write_config(tmp_path, sweep={**sweep, "cases": cases}))
    with pytest.raises(InputError, match=rf"sweep\.{key}: .* of a baseline \(method\) do not have"):
        listed_trials(config)
