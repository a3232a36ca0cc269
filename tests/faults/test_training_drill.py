"""Rows of the drill: what dies while the student is trained, or measured."""

import json
import os
import shutil
import signal
import time

import pytest
from clusters import changing
from tiny_run import (
    contents,
    ended,
    events,
    finish,
    run_of,
    stamps,
    start,
    wait_until,
    write_config,
)

from dfshield.runs.watching.event_log import read_events
from dfshield.storage import Folder

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SLOW = {
    "synthesis__num_images": 200,
    "synthesis__iterations": 50,
    "training__inner": {"num_steps": 100},
    "training__epochs": 4,
    "evaluation__slice_size": 8,
    "evaluation__attacks": [{"name": "pgd", "num_steps": 500}],
}
NUM_UPDATES, UPDATES_PER_EPOCH = 20, 5


def student(run):
    # The model card belongs to the report.
    return {name: c for name, c in contents(run / "student").items() if name != "README.md"}


def slices(run):
    """The verdicts on every slice; how long they took differs."""
    files = contents(run / "evaluation" / "slices")
    verdicts = {n: json.loads(c) for n, c in files.items() if n.endswith(".json")}
    return {
        name: {key: value for key, value in verdict.items() if "seconds" not in key}
        for name, verdict in verdicts.items()
    }


@pytest.fixture(scope="module")
def undisturbed(finished, tmp_path_factory):
    """The run folder that the slow configuration gives in one process that nobody kills."""
    config = write_config(tmp_path_factory.mktemp("undisturbed"), **SLOW)
    shutil.copytree(run_of(finished / "tiny.yaml") / "teacher", run_of(config) / "teacher")
    finish("run", config)
    return run_of(config)


class Job:
    """A run that has its images, and is disturbed afterwards."""

    def __init__(self, disturbed, undisturbed, victim, phase, *stages):
        job = disturbed(victim, phase, **SLOW)
        self.config, self.run, self.account = job.config, job.run, job.account
        self.undisturbed = undisturbed
        for stage in ("synthetic", *stages):
            shutil.copytree(undisturbed / stage, self.run / stage)
        self.before = stamps(self.run / "synthetic")
        self.began = time.monotonic()

    def strike(self, kill):
        kill()
        self.account.kills += 1
        self.account.committed.append(len(events(self.run, "update")))

    def account_for(self, *, lost=None):
        assert stamps(self.run / "synthetic") == self.before
        assert student(self.run) == student(self.undisturbed)
        self.account.lost = max(0, len(events(self.run, "update")) - NUM_UPDATES)
        at_most = 2 * self.account.kills if lost is None else lost
        assert self.account.lost <= at_most  # updates between two checkpoints
        assert not (self.run / ".ray-train").exists()
        self.account.seconds = time.monotonic() - self.began


@pytest.fixture
def job(disturbed, undisturbed):
    def make(victim, phase, *stages):
        return Job(disturbed, undisturbed, victim, phase, *stages)

    return make


def trained(run, updates):
    """Whether that many updates are in the checkpoints of this run."""
    return lambda: len(events(run, "checkpoint")) >= updates


def pid_of(run, worker):
    return [e["pid"] for e in events(run, "worker_started") if e["worker"] == worker][-1]


@pytest.mark.drill
@pytest.mark.parametrize("times", [1, 3])
def test_a_training_worker(cluster, job, times):
    job = job("Ray Train worker: SIGKILL", "training")
    two = (f"cluster.address={cluster.address}", "cluster.num_workers=2")
    process = start("train", job.config, *two)
    for number in range(times):
        wait_until(trained(job.run, 3 * (number + 1)), process)
        wait_until(lambda n=number: len(events(job.run, "training_started")) > n, process)
        job.strike(lambda: os.kill(pid_of(job.run, "rank-1"), signal.SIGKILL))
    answer = ended(process)
    assert answer.code == 0, answer
    assert "Traceback" not in answer.err
    assert answer.err.count("lost; the group goes on from the last checkpoint") == times
    assert "rank-1" in {e["worker"] for e in events(job.run, "worker_lost")}
    began, *again = events(job.run, "training_started")
    assert began["updates"] == 0
    assert all(e["updates"] >= 3 for e in again)
    job.account_for()


@pytest.mark.drill
def test_a_node_of_the_training_group(job):
    clusters = changing(nodes=2, gpus=1)
    cluster = next(clusters)
    job = job("node", "training")
    process = start("train", job.config, cluster.setting)
    wait_until(trained(job.run, 3), process)
    job.strike(lambda: cluster.kill(cluster.nodes[1]))
    answer = ended(process)
    next(clusters, None)
    assert answer.code == 0, answer
    assert "Traceback" not in answer.err
    assert "raylet" not in answer.out.lower()
    began, again = events(job.run, "training_started")
    assert (began["updates"], again["updates"] >= 3) == (0, True)
    assert cluster.nodes[1].node_id in {e["node"] for e in events(job.run, "worker_started")}
    job.account_for()


@pytest.mark.drill
@pytest.mark.parametrize("index", [0, 1])
def test_a_node_that_is_preempted(job, index):
    """The notice is what the only checkpoint is due to."""
    clusters = changing(nodes=2, gpus=1)
    cluster = next(clusters)
    job = job("node: preempted, after a notice", "training")
    process = start("train", job.config, cluster.setting, "training.checkpoint_every=1000")
    wait_until(lambda: len(events(job.run, "update")) >= 1, process)
    victim = cluster.nodes[index]
    cluster.drain(victim, 3600)
    wait_until(trained(job.run, 1), process)
    (kept,) = events(job.run, "checkpoint")
    job.strike(lambda: cluster.kill(victim))
    answer = ended(process)
    next(clusters, None)
    assert answer.code == 0, answer
    assert "Traceback" not in answer.err
    assert "the node is about to be taken away" in answer.err
    assert events(job.run, "node_leaving")[0]["node"] == victim.node_id
    _, again = events(job.run, "training_started")
    assert again["updates"] == kept["epoch"] * UPDATES_PER_EPOCH + kept["update"]
    # Updates went on after the checkpoint until the node was gone.
    job.account_for(lost=NUM_UPDATES)


@pytest.mark.drill
def test_the_process_that_leads_the_cluster(job):
    job = job("GCS: SIGKILL", "training")
    first = changing()
    cluster = next(first)
    process = start("train", job.config, cluster.setting)
    wait_until(trained(job.run, 3), process)
    (gcs,) = cluster.cluster.head_node.all_processes["gcs_server"]
    job.strike(gcs.process.kill)
    answer = ended(process)
    next(first, None)
    assert answer.code == 3, answer
    assert answer.err.strip().splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in answer.err

    second = changing()
    finish("train", job.config, next(second).setting)
    next(second, None)
    job.account_for()


@pytest.mark.drill
def test_a_driver_in_training_and_in_evaluation(job):
    job = job("driver with a local Ray: SIGKILL", "training, evaluation")

    def killed_when(condition):
        process = start("run", job.config, "cluster.address=local")
        wait_until(condition, process)
        job.strike(process.kill)
        assert ended(process).code == -signal.SIGKILL

    killed_when(trained(job.run, 3))
    assert not (job.run / "student" / "model.safetensors").exists()
    killed_when(lambda: any("pgd" in name for name in slices(job.run)))
    measured = stamps(job.run / "evaluation" / "slices")
    model = stamps(job.run)["student/model.safetensors"]
    answer = finish("run", job.config, "cluster.address=local")
    assert "Traceback" not in answer.err
    assert stamps(job.run)["student/model.safetensors"] == model
    assert measured.items() <= stamps(job.run / "evaluation" / "slices").items()
    assert events(job.run, "training_started")[-1]["updates"] >= 3
    assert len(slices(job.run)) == 20
    assert slices(job.run) == slices(job.undisturbed)
    assert (job.run / "report" / "index.html").exists()
    job.account_for()


@pytest.mark.drill
def test_a_driver_whose_run_lies_on_a_store(undisturbed, counted, s3, tmp_path):
    account = counted("driver with a local Ray: SIGKILL", "synthesis, training on S3")
    changes = {**SLOW, "storage__path": "s3://bucket/runs", "cluster__address": "local"}
    config = write_config(tmp_path, **changes)
    began = time.monotonic()

    def parts():
        return [path for path in s3.stored if path.endswith(".parquet")]

    def checkpoints():
        return [path for path in s3.stored if path.endswith("/student/checkpoint.pt")]

    for ripe, done in (
        (lambda: 2 <= len(parts()) < 6, parts),
        (lambda: len(checkpoints()) >= 3, checkpoints),
    ):
        process = start("run", config)
        wait_until(ripe, process)
        account.committed.append(len(done()))
        process.kill()
        account.kills += 1
        assert ended(process).code == -signal.SIGKILL
    answer = finish("run", config)
    assert "Traceback" not in answer.err

    run = Folder.at("s3://bucket/runs/tiny")
    made = {name: run.read_bytes(name) for name in run.list()}
    for stage, expected in (
        ("student/", student(undisturbed)),
        ("synthetic/", contents(undisturbed / "synthetic")),
        ("teacher/", contents(undisturbed / "teacher")),
    ):
        names = {name.removeprefix(stage): name for name in made if name.startswith(stage)}
        assert {n: made[name] for n, name in names.items() if n != "README.md"} == {
            n: c for n, c in expected.items() if n != "README.md"
        }
    assert len(parts()) == len(set(parts()))
    told = read_events(run)
    assert [e["updates"] >= 3 for e in told if e["event"] == "training_started"][-1]
    # The events of the last seconds before a kill are not on the store.
    account.lost = max(0, sum(e["event"] == "update" for e in told) - NUM_UPDATES)
    assert "report/index.html" in made
    assert not [name for name in made if name.startswith(".ray-train")]
    account.seconds = time.monotonic() - began
