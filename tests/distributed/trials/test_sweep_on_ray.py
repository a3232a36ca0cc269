"""Sweeps on Ray Tune: same figures as in one process, stopped early, searched, several workers."""

import pytest
from tiny_run import call, events, run_of, succeed, write_config
from tiny_sweep import LAMBDA1, TAU, records, sweep_of

pytestmark = [pytest.mark.ray, pytest.mark.slow]

AXES = {LAMBDA1: {"grid": [1, 1e30]}}
LONGER = {"training__epochs": 6}


def sweep_config(folder, **changes):
    return write_config(folder, **{"sweep__parameters": AXES, **changes})


def figures(config):
    """What of the trials does not depend on the clock."""
    names = ("state", "reason", "epochs", "holdout", "test", "floor", "collapsed")
    return {key: {n: r[n] for n in names} for key, r in records(config).items()}


@pytest.fixture
def joined(cluster):
    """The settings that let a command use the cluster."""
    return f"cluster.address={cluster.address}"


def test_figures_equal_those_of_one_process_and_errors_are_results(tmp_path, joined):
    alone, spread = (sweep_config(tmp_path / name) for name in ("alone", "spread"))
    succeed("sweep", alone)
    answer = succeed("sweep", spread, joined)
    assert figures(spread) == figures(alone)
    failed = [key for key, record in records(spread).items() if record["state"] == "failed"]
    assert failed == [key for key in records(spread) if key[1] == 1e30]
    assert "failed" in answer.err
    assert not (run_of(spread) / ".ray-tune").exists()
    nodes = {e["worker"] for e in events(run_of(spread), "worker_lost")}
    assert not nodes


@pytest.mark.drill
def test_the_cells_of_a_matrix_have_the_figures_of_one_process(tmp_path, joined):
    images = {"data": {"name": "digits", "split": "train"}, "labels": "teacher"}
    short = {"images": images, "epochs": 1, "batch_size": 100, "inner": {"num_steps": 1}}
    cases = {
        "classifier": {"small": {}, "wide": {"teacher": {"options": {"width": 12}}}},
        "images": {"surrogate": {}, "unlabelled": {"training": short}},
    }
    changes = {"sweep__cases": cases, "sweep__parameters": {}}
    alone, spread = (sweep_config(tmp_path / name, **changes) for name in ("alone", "spread"))
    succeed("matrix", alone)
    answer = succeed("matrix", spread, joined)
    assert len(records(spread)) == 4
    assert figures(spread) == figures(alone)
    assert {key[2] for key, r in records(spread).items() if not r.get("data_free", True)} == {
        "unlabelled"
    }
    assert "†" in answer.out


@pytest.mark.drill
@pytest.mark.parametrize("workers", [1, 2])
def test_images_may_lie_in_the_memory_of_the_cluster(tmp_path, joined, workers):
    axes = {LAMBDA1: {"grid": [0, 1]}}
    alone, spread = (
        sweep_config(tmp_path / name, sweep__parameters=axes) for name in ("alone", "spread")
    )
    succeed("sweep", alone)
    memory = ("storage.sink=object_store", f"sweep.workers_per_trial={workers}")
    succeed("sweep", spread, joined, *memory)
    assert len(records(spread)) == 2
    assert figures(spread) == figures(alone)
    assert not list((run_of(spread) / "synthetic").rglob("*.parquet"))


def test_a_scheduler_stops_what_is_behind_and_it_stays_stopped(tmp_path, joined):
    axes = {"training.learning_rate": {"grid": [0.02, 1e-9, 2e-9, 3e-9]}}
    # On twenty images of five iterations, these are the ones that the trained student is ahead on.
    alike = {"synthesis__method": {"holdout": "alike"}}
    config = sweep_config(tmp_path, sweep__parameters=axes, **LONGER, **alike)
    settings = (joined, "sweep.scheduler=asha", "sweep.max_concurrent=2")
    succeed("sweep", config, *settings)
    states = {key[1]: record["state"] for key, record in records(config).items()}
    assert len(states) == 4
    assert states[0.02] == "done"
    stopped = [r for r in records(config).values() if r["state"] == "stopped"]
    assert stopped
    assert all(1 <= r["epochs"] < 6 and r["test"] == {} and r["holdout"] for r in stopped)
    assert all("behind" in r["reason"] for r in stopped)
    before = records(config)
    succeed("sweep", config, *settings)
    assert records(config) == before


@pytest.mark.drill
@pytest.mark.parametrize("search", ["tpe", "tpe-pareto"])
def test_a_sampler_judges_settings_by_all_their_seeds_and_goes_on_from_what_is_known(
    tmp_path, joined, search
):
    axes = {LAMBDA1: {"loguniform": [0.01, 10]}, "training.inner.num_steps": {"randint": [2, 4]}}
    config = sweep_config(tmp_path, sweep__parameters=axes, sweep__seeds=[0, 1])
    settings = (joined, f"sweep.search={search}")
    succeed("sweep", config, *settings, "sweep.max_trials=2")
    first = records(config)
    assert len(first) == 4
    succeed("sweep", config, *settings, "sweep.max_trials=4")
    second = records(config)
    assert len(second) == 8
    assert {key: second[key] for key in first} == first
    by_values = {}
    for seed, *values in second:
        by_values.setdefault(tuple(values), set()).add(seed)
    assert list(by_values.values()) == [{0, 1}] * 4
    assert (sweep_of(config) / "report" / "index.html").exists()


@pytest.mark.drill
def test_workers_share_a_trial_and_give_the_student_of_one(tmp_path, joined):
    axes = {TAU: {"grid": [0, 0.5]}}
    alone, shared = (
        sweep_config(tmp_path / name, sweep__parameters=axes) for name in ("alone", "shared")
    )
    succeed("sweep", alone)
    succeed("sweep", shared, joined, "sweep.workers_per_trial=2")
    assert figures(shared) == figures(alone)
    for trial in (sweep_of(shared) / "trials").iterdir():
        started = {e["worker"] for e in events(trial, "worker_started")}
        assert {"rank-0", "rank-1"} <= started


@pytest.mark.drill
@pytest.mark.parametrize("again", [0, 1, 2])
def test_nested_trials_that_are_stopped_early_leave_no_stall(tmp_path, joined, again):
    axes = {"training.learning_rate": {"grid": [0.01, 0.02, 1e-9, 2e-9]}}
    config = sweep_config(tmp_path, sweep__parameters=axes, **LONGER)
    succeed("sweep", config, joined, "sweep.scheduler=asha", "sweep.workers_per_trial=2")
    states = [record["state"] for record in records(config).values()]
    assert len(states) == 4
    assert set(states) <= {"done", "stopped"}
    assert "done" in states


@pytest.mark.drill
def test_more_workers_than_there_is_room_for_are_refused(tmp_path, joined):
    refused = call("sweep", sweep_config(tmp_path), joined, "sweep.workers_per_trial=5").refusal()
    assert "sweep.workers_per_trial: 5 wanted" in refused
    assert "4 workers" in refused


@pytest.mark.drill
def test_trials_share_gpus(tmp_path, joined):
    config = sweep_config(tmp_path, sweep__parameters={TAU: {"grid": [0, 0.1, 0.2, 0.3]}})
    succeed("sweep", config, joined, "sweep.gpus_per_trial=0.5", "cluster.num_workers=2")
    assert len(records(config)) == 4
