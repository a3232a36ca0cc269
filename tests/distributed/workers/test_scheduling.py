"""Clusters that grow, GPUs that are shared, and training groups that change their size."""

import sys
from pathlib import Path

import pytest
from tiny_run import call, contents, ended, events, run_of, start, succeed, wait_until

sys.path.insert(0, str(Path(__file__).parents[2] / "faults"))
from clusters import changing

pytestmark = [pytest.mark.ray, pytest.mark.slow]

# The command line, with a training group that looks for room every two seconds.
IMPATIENT = """
from dfshield.cli.main import main
from dfshield.distributed.training import group
group.SECONDS_BETWEEN_RESIZES = 2.0
main()
"""


@pytest.fixture
def empty():
    """A cluster whose head has no GPU, and no other node."""
    made = changing(nodes=0)
    yield next(made)
    next(made, None)


def lines(file):
    return file.read_text() if file.exists() else ""


def waited_for(empty, config, said, *settings):
    """Refuse a command on a cluster without GPUs, let it wait, and give it a node."""
    line = call("synthesize", config, empty.setting, *settings).refusal()
    assert "the Ray cluster has no GPUs to work on" in line
    assert "cluster.wait=SECONDS" in line
    wanted = (empty.setting, *settings, "cluster.wait=100")
    with said.open("w") as stderr:
        process = start("synthesize", config, *wanted, stderr=stderr)
    wait_until(lambda: "Waiting for nodes, 100 s at most" in lines(said), process)
    empty.grow()
    assert ended(process).code == 0, lines(said)
    return [(e["node"], tuple(e["gpus"])) for e in events(run_of(config), "worker_started")]


def test_a_cluster_without_gpus_is_waited_for(empty, tiny, tmp_path):
    one = ("cluster.gpus_per_worker=1", "cluster.num_workers=1")
    assert len(waited_for(empty, tiny(keep=("teacher",)), tmp_path / "said", *one)) == 1


@pytest.mark.drill
def test_workers_share_the_first_gpu_that_comes(empty, tiny, tmp_path):
    # Long enough for the second worker to start before the first has done it all.
    config = tiny(keep=("teacher",), synthesis__iterations=200)
    half = ("cluster.gpus_per_worker=0.5", "cluster.num_workers=4")
    places = waited_for(empty, config, tmp_path / "said", *half)
    assert len(places) == 2
    assert len(set(places)) == 1


@pytest.mark.drill
def test_a_training_group_takes_whole_gpus_and_more_when_there_are_more(empty, tiny, tmp_path):
    training = {"training__epochs": 120, "training__inner": {"num_steps": 5}}
    keep = ("teacher", "synthetic")
    alone, spread = (tiny(name=name, keep=keep, **training) for name in ("alone", "spread"))
    succeed("train", alone)
    empty.grow()
    said = tmp_path / "said"
    settings = (empty.setting, "cluster.gpus_per_worker=0.5", "cluster.num_workers=4")
    with said.open("w") as stderr:
        command = [sys.executable, "-c", IMPATIENT]
        wait = "cluster.wait=100"
        process = start("train", spread, *settings, wait, command=command, stderr=stderr)
    wait_until(lambda: len(events(run_of(spread), "update")) > 5, process)
    empty.grow()
    assert ended(process).code == 0, lines(said)
    assert "More room: the training goes on with 2 workers" in lines(said)
    assert not events(run_of(spread), "worker_lost")
    ranks = [e["worker"] for e in events(run_of(spread), "worker_started")]
    assert sorted(ranks) == ["rank-0", "rank-0", "rank-1"]
    assert contents(run_of(spread) / "student") == contents(run_of(alone) / "student")


@pytest.mark.drill
def test_more_than_there_is_can_be_wanted_of_a_cluster_that_may_grow(cluster, tiny):
    config = tiny(keep=("teacher",))
    address = f"cluster.address={cluster.address}"
    line = call("synthesize", config, address, "cluster.num_workers=5").refusal()
    assert "cluster.num_workers: 5 wanted, but Ray has 4 GPUs" in line
    line = call("train", config, address, "cluster.min_workers=5").refusal()
    assert "synthetic" in line  # nothing to train on: found before the cluster is looked at
    succeed("synthesize", config, address, "cluster.num_workers=5", "cluster.wait=10")
    line = call("train", config, address, "cluster.min_workers=5").refusal()
    assert "cluster.min_workers: 5 wanted, but Ray has 4 GPUs" in line
