"""Groups of 1, 2 and 3 real processes against one worker without a group: equal to the bit."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dfshield.training import OBJECTIVES, SingleWorker, WorkerGroup

SCRIPT = Path(__file__).with_name("group_worker.py")
SIZES = (1, 2, 3)
BOUNDARY = 3  # the update after which a run is gone on from


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("group_worker", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def alone(script):
    """The results of one worker without a group."""
    return script.results(None)


@pytest.fixture(scope="module")
def workers(alone, tmp_path_factory):
    """The results of every worker of every group, by size and rank."""
    folder = tmp_path_factory.mktemp("group")
    torch.save(alone["runs"]["convolutional, K = 5, l2"]["states"][BOUNDARY], folder / "state.pt")
    subprocess.run([sys.executable, str(SCRIPT), str(folder)], check=True, timeout=300)
    return {
        (size, rank): torch.load(folder / f"result-{size}-{rank}.pt", weights_only=True)
        for size in SIZES
        for rank in range(size)
    }


def differences(actual, expected, where=""):
    """Return the places at which two nested results are not equal to the bit."""
    if isinstance(expected, torch.Tensor):
        return [] if actual.dtype == expected.dtype and torch.equal(actual, expected) else [where]
    if isinstance(expected, dict):
        actual, expected = list(actual.items()), list(expected.items())
    if isinstance(expected, list | tuple):
        if len(actual) != len(expected):
            return [where]
        pairs = enumerate(zip(actual, expected, strict=True))
        return [place for i, (a, e) in pairs for place in differences(a, e, f"{where}/{i}")]
    return [] if actual == expected else [f"{where}: {actual} is not {expected}"]


@pytest.mark.parametrize("size", SIZES)
def test_every_group_takes_the_updates_of_one_worker(workers, alone, script, size):
    """Parameters, momentum, BatchNorm buffers and records at every update; averages and metrics."""
    for name in script.RUNS:
        expected = alone["runs"][name]
        assert len(expected["states"]) >= 6
        assert len(expected["holdout"]) == 2
        for rank in range(size):
            assert differences(workers[size, rank]["runs"][name], expected) == [], (name, rank)


def test_every_objective_is_trained_with(script):
    assert {objective for *_, objective in script.RUNS.values()} == set(OBJECTIVES)


def test_the_updates_that_are_compared_do_something(alone, script):
    for name in script.RUNS:
        run = alone["runs"][name]
        for before, after in zip(run["states"], run["states"][1:], strict=False):
            same = [k for k, v in after["student"].items() if torch.equal(v, before["student"][k])]
            assert sorted(same) == sorted(script.STILL.get(script.RUNS[name][0], [])), name
        assert 0 < run["records"][0]["agreement_rate"] < 1
        assert differences(*run["averages"][:2]) != [], name
        averaged, last = run["averages"][-1], run["states"][-1]["student"]
        averages = "average" in script.INGREDIENTS.get(name, {})
        assert (differences(averaged, last) != []) == averages, name
    measured = [epoch for run in alone["runs"].values() for epoch in run["holdout"]]
    assert any(run["holdout"][0] != run["holdout"][1] for run in alone["runs"].values())
    assert any(epoch["agreement_pgd"] != epoch["agreement_clean"] for epoch in measured)


@pytest.mark.parametrize("size", SIZES)
def test_gradients_are_refined_as_by_one_worker(workers, alone, size):
    for rank in range(size):
        assert differences(workers[size, rank]["refined"], alone["refined"]) == []
    # What had a gradient on one worker only is stepped by all; what had none, by nobody.
    assert alone["refined"][1]["stepped"] == [True, True, False]


@pytest.mark.parametrize("size", SIZES)
def test_an_update_costs_one_reduction_and_one_gathering(workers, size):
    expected = {"all_reduce": 0 if size == 1 else 1, "all_gather": 1}
    for rank in range(size):
        assert workers[size, rank]["calls"] == expected


@pytest.mark.parametrize("size", SIZES)
def test_a_training_goes_on_with_another_number_of_workers(workers, alone, size):
    whole = alone["runs"]["convolutional, K = 5, l2"]
    for rank in range(size):
        resumed = workers[size, rank]["resumed"]
        assert differences(resumed["states"], whole["states"][BOUNDARY + 1 :]) == []
        assert differences(resumed["records"], whole["records"][BOUNDARY + 1 :]) == []


def test_one_worker_goes_on_from_the_state_of_three(workers, alone, script):
    name = "dropout, K = 6, l2"
    trainer = script.make_trainer(name, None)
    trainer.load_state_dict(workers[3, 1]["runs"][name]["states"][BOUNDARY])
    resumed, whole = script.trained(trainer), alone["runs"][name]
    assert differences(resumed["states"], whole["states"][BOUNDARY + 1 :]) == []


@pytest.mark.parametrize("size", SIZES)
def test_a_gradient_that_is_not_finite_on_one_worker_is_an_error_on_all(workers, size):
    for rank in range(size):
        result = workers[size, rank]["diverged"]
        assert "learning_rate" in result["error"]
        assert differences(result["after"], result["before"]) == []


@pytest.mark.parametrize("size", [2, 3])
def test_these_tests_would_notice_a_wrong_group(workers, alone, size):
    expected = alone["runs"]["convolutional, K = 6, linf"]["states"][0]["student"]
    for rank in range(size):
        averaged, ungathered = (workers[size, rank][w] for w in ("averaging", "secretive"))
        assert not torch.equal(averaged["0.weight"], expected["0.weight"])
        assert torch.equal(averaged["1.running_mean"], expected["1.running_mean"])
        assert torch.equal(ungathered["0.weight"], expected["0.weight"])
        assert not torch.equal(ungathered["1.running_mean"], expected["1.running_mean"])
        assert not torch.equal(ungathered["7.running_var"], expected["7.running_var"])


def test_a_single_worker_is_a_group_that_sends_nothing():
    worker, tensor, value = SingleWorker(), torch.ones(2), object()
    assert isinstance(worker, WorkerGroup)
    worker.all_reduce(tensor)
    assert tensor.tolist() == [1.0, 1.0]
    assert worker.all_gather(value)[0] is value
