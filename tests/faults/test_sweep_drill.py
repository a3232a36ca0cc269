"""Sweeps that are killed, interrupted, or lose a node: every trial once, with the same figures."""

import json
import os
import random
import signal
import time

import pytest
from clusters import changing
from tiny_run import (
    ended,
    events,
    resuming_command,
    start,
    succeed,
    wait_until,
    write_config,
)
from tiny_sweep import sweep_of, trial_records

pytestmark = [pytest.mark.ray, pytest.mark.slow]

AXES = {
    "training.objective.lambda1": {"grid": [0, 0.1, 1, 10]},
    "training.gradrefine.tau": {"grid": [0, 0.5, 1]},
}
SETTINGS = {"sweep__parameters": AXES, "training__epochs": 6, "training__inner": {"num_steps": 20}}
NUM_TRIALS = 12
FEW = {"sweep__parameters": {"training.objective.lambda1": {"grid": [0, 0.1, 1, 10]}}}


def figures(config):
    """What of the results does not depend on the clock; also that no trial stands there twice."""
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(sweep_of(config) / "results.parquet")
    left = table.drop_columns(["started", "seconds", "storage.path"]).to_pylist()
    rows = {row["trial"]: row for row in left}
    assert len(rows) == len(left)
    return rows


def num_ended(config):
    return sum(record["state"] != "running" for record in trial_records(config))


def num_training(config):
    """How many trials are in the middle of their training."""
    running = [r["name"] for r in trial_records(config) if r["state"] == "running"]
    return sum(bool(events(sweep_of(config) / "trials" / name, "checkpoint")) for name in running)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What the sweep gives when nobody disturbs it."""
    config = write_config(tmp_path_factory.mktemp("undisturbed"), **SETTINGS)
    os.environ["OMP_NUM_THREADS"] = "1"
    succeed("sweep", config)
    return figures(config)


@pytest.mark.drill
def test_three_kills_cost_no_trial_and_change_no_figure(tmp_path, undisturbed):
    config = write_config(tmp_path, **SETTINGS)
    draw = random.Random(os.getpid())
    before = {}
    for kill in range(3):
        process = start("sweep", config, "cluster.address=local")
        wanted = 1 + 3 * kill
        wait_until(lambda wanted=wanted: num_ended(config) >= wanted, process, seconds=240)
        time.sleep(draw.uniform(0, 3))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        # What had ended stays as it is.
        found = {r["name"]: r for r in trial_records(config) if r["state"] != "running"}
        assert {name: found[name] for name in before} == before
        before = found
    answer = ended(start("sweep", config, "cluster.address=local"))
    assert answer.code == 0, answer
    assert {r["name"]: r for r in trial_records(config) if r["name"] in before} == before
    assert len(figures(config)) == NUM_TRIALS
    assert figures(config) == undisturbed


@pytest.mark.drill
def test_ctrl_c_says_how_to_go_on(tmp_path):
    alone, config = (write_config(tmp_path / name, **FEW) for name in ("alone", "disturbed"))
    succeed("sweep", alone)
    process = start("sweep", config, "cluster.address=local")
    wait_until(lambda: num_ended(config) >= 1, process, seconds=240)
    process.send_signal(signal.SIGINT)
    answer = ended(process)
    assert answer.code == 130, answer
    assert "Traceback" not in answer.err
    args = resuming_command(answer)
    assert args[:2] == ["sweep", str(config)]
    status = json.loads(succeed("status", sweep_of(config), "--json").out)
    assert status["trials"]["done"] >= 1
    assert sum(status["trials"].values()) == 4
    answer = ended(start(*args), seconds=300)
    assert answer.code == 0, answer
    assert figures(config) == figures(alone)


@pytest.fixture
def nodes():
    """A cluster of two nodes with a GPU each."""
    yield from changing(nodes=2, gpus=1)


@pytest.mark.drill
def test_a_node_that_is_removed_half_way_costs_no_trial(tmp_path, undisturbed, nodes):
    config = write_config(tmp_path, **SETTINGS)
    process = start("sweep", config, nodes.setting)
    # Each node has a trial: one that is between two of them would have nothing to lose.
    wait_until(lambda: num_ended(config) >= 3 and num_training(config) == 2, process, seconds=240)
    nodes.kill(nodes.nodes.pop())
    answer = ended(process)
    assert answer.code == 0, answer
    assert figures(config) == undisturbed
    assert events(sweep_of(config), "worker_lost")
