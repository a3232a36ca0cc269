"""Rows of the drill: workers and nodes of a cluster die, come, and are taken away."""

import json
import os
import shutil
import signal

import pytest
from clusters import changing
from drill import SLOWER, SYNTHESIS, at_work, finished, part_stamps
from tiny_run import contents, ended, events, finish, run_of, start, wait_until, write_config

from dfshield.config import load_config
from dfshield.seeds import RngStream
from dfshield.synthesis import CoefficientSampler, draw_batch

pytestmark = [pytest.mark.ray, pytest.mark.slow]


LONG = {**SYNTHESIS, "synthesis__num_images": 140, "synthesis__iterations": 1500}


@pytest.fixture
def unsteady():
    """A cluster of a head and two nodes with one GPU each."""
    made = changing()
    yield next(made)
    next(made, None)


def started(run):
    """Where every worker that has started is."""
    return {e["worker"]: e for e in events(run, "worker_started")}


def kill_a_worker(job):
    worker = sorted(at_work(job.run))[0]
    os.kill(started(job.run)[worker]["pid"], signal.SIGKILL)


@pytest.mark.drill
@pytest.mark.parametrize("times", [1, 6])
def test_actor(disturbed, cluster, times):
    job = disturbed("actor: SIGKILL", synthesis=SLOWER)
    process = start("synthesize", job.config, f"cluster.address={cluster.address}")
    for _ in range(times):
        wait_until(job.ripe, process)
        job.strike(lambda: kill_a_worker(job))
    answer = ended(process)
    assert answer.code == 0, answer
    assert "Traceback" not in answer.err
    job.account_for()
    assert len(events(job.run, "worker_lost")) == times
    assert answer.err.count("is begun again") == job.account.lost


def node_of(job, worker):
    return started(job.run)[worker]["node"]


@pytest.mark.drill
@pytest.mark.parametrize("replaced", [False, True])
def test_node(disturbed, unsteady, replaced):
    job = disturbed(f"node, {'replaced' if replaced else 'not replaced'}", synthesis=SLOWER)
    process = start("synthesize", job.config, unsteady.setting)
    wait_until(lambda: job.ripe() and len(at_work(job.run)) == 2, process)
    job.strike(lambda: unsteady.kill(unsteady.nodes[0]))
    new = unsteady.grow() if replaced else None
    answer = ended(process)
    assert answer.code == 0, answer
    job.account_for()
    if new is not None:
        assert new.node_id in {e["node"] for e in started(job.run).values()}


@pytest.mark.drill
def test_a_node_that_joins_gets_work(disturbed, unsteady):
    job = disturbed("nobody: a node joins", synthesis=LONG)
    process = start("synthesize", job.config, unsteady.setting)
    wait_until(job.ripe, process)
    new = unsteady.grow()
    answer = ended(process)
    assert answer.code == 0, answer
    job.account_for()
    (worker,) = [w for w, e in started(job.run).items() if e["node"] == new.node_id]
    assert worker in {e["worker"] for e in events(job.run, "part_committed")}


@pytest.mark.drill
def test_a_node_that_is_preempted(disturbed, unsteady):
    job = disturbed("node: preempted, after a notice", "inside a part", synthesis=LONG)
    process = start("synthesize", job.config, unsteady.setting)
    wait_until(lambda: job.ripe() and len(at_work(job.run)) == 2, process)
    victim = unsteady.nodes[0]
    unsteady.drain(victim, 3600)
    unfinished = job.run / "synthetic" / "unfinished"
    wait_until(lambda: list(unfinished.glob("*.pt")), process)
    (kept,) = unfinished.glob("*.pt")
    (leaving,) = [w for w, e in started(job.run).items() if e["node"] == victim.node_id]
    assert at_work(job.run)[leaving].split("/")[-1].split(".")[0][5:] in kept.name
    job.strike(lambda: unsteady.kill(victim))
    answer = ended(process)
    assert answer.code == 0, answer
    assert "the node is about to be taken away" in answer.err
    job.account_for()
    (lost,) = events(job.run, "worker_lost")
    assert lost["worker"] == leaving
    (resumed,) = events(job.run, "part_resumed")
    assert resumed["path"] == lost["unit"]


@pytest.mark.drill
def test_the_process_that_leads_the_cluster(disturbed, unsteady):
    """Workers that live need no GCS: they do what is left."""
    job = disturbed("GCS: SIGKILL", synthesis=SLOWER)
    process = start("synthesize", job.config, unsteady.setting)
    wait_until(job.ripe, process)
    (gcs,) = unsteady.cluster.head_node.all_processes["gcs_server"]
    job.strike(gcs.process.kill)
    answer = ended(process)
    assert answer.code == 0, answer
    job.account_for()


@pytest.mark.drill
def test_the_head(disturbed):
    job = disturbed("head node, and all others", workers=2, synthesis=SLOWER)
    first = changing()
    cluster = next(first)
    process = start("synthesize", job.config, cluster.setting)
    wait_until(job.ripe, process)
    job.strike(cluster.end)
    answer = ended(process)
    assert answer.code == 3, answer
    line = answer.err.strip().splitlines()[-1]
    assert line.startswith("Error: ")
    assert "what was committed is kept: give the same command again" in line
    assert "Traceback" not in answer.err
    next(first, None)

    second = changing()
    finished(job, next(second).setting)
    next(second, None)
    job.account_for()


# A classifier whose process dies when it is shown the first noise of one batch.
DEADLY = """
import os
from pathlib import Path

import torch

from dfshield.classifiers import build

POISON = Path(__file__).with_name("poison")


class Deadly(torch.nn.Module):
    def __init__(self):
        super().__init__()
        options = {"width": 8}
        self.network = build(
            "dfshield:resnet8", input_shape=(1, 8, 8), num_classes=10, options=options, seed=0
        ).network

    def forward(self, x):
        if POISON.exists() and float(POISON.read_text()) == float(x.flatten()[0]):
            os._exit(1)
        return self.network(x)
"""
TEACHER = {
    "source": "python:deadly:Deadly",
    "input_shape": [1, 8, 8],
    "num_classes": 10,
    "mean": [0.5],
    "std": [0.5],
}
BATCH = 3


@pytest.mark.drill
def test_a_part_that_kills_its_workers(disturbed, cluster, tmp_path, monkeypatch):
    """It is set aside and named, the others are made; mended, the command makes it alone."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deadly.py").write_text(DEADLY)
    changes = {**SYNTHESIS, "teacher": TEACHER}
    alone = write_config(tmp_path / "alone", **changes)
    finish("teacher", alone)
    finish("synthesize", alone)
    job = disturbed("actor: always at one part", workers=1, teacher=TEACHER)
    shutil.rmtree(job.run)
    shutil.copytree(run_of(alone) / "teacher", job.run / "teacher")
    job.reference = run_of(alone)
    config = load_config(str(job.config), ())
    draws = draw_batch(
        seed=0,
        stream=RngStream.SYNTHESIS,
        batch=BATCH,
        size=20,
        image_shape=(1, 8, 8),
        num_classes=10,
        labels=config.synthesis.method.labels,
        coefficients=CoefficientSampler(**config.synthesis.method.coefficients),
        jitter=0,
        iterations=1,
    )
    (tmp_path / "poison").write_text(repr(float(draws.noise.flatten()[0])))
    part = f"data/shard=00000/part-{BATCH:04d}.parquet"

    address = f"cluster.address={cluster.address}"
    answer = ended(start("synthesize", job.config, address))
    assert answer.refusal(3).startswith(f"Error: {part}: given up after 3 retries: ")
    assert set(contents(job.reference / "synthetic" / "data")) - set(
        contents(job.run / "synthetic" / "data")
    ) == {part.removeprefix("data/")}
    assert [e["unit"] for e in events(job.run, "worker_lost")] == 4 * [part]
    status = json.loads(finish("status", job.run, "--json").out)
    (failed,) = status["seeds"][0]["synthesize"]["failed"]
    assert failed["part"] == part
    job.seen.append(part_stamps(job.run))
    job.account.kills = 4
    job.account.committed.append(len(job.seen[0]))

    (tmp_path / "poison").unlink()
    begun = len(events(job.run, "unit_started"))
    finished(job, address)
    assert [e["unit"] for e in events(job.run, "unit_started")[begun:]] == [part]
    job.account_for()
