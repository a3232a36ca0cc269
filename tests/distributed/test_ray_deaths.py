"""Commands whose processes or nodes die: the work is finished, and nothing is done twice."""

import json
import os
import shutil
import signal

import pytest
from ray_cluster import QUICK_DEATH
from tiny_run import (
    contents,
    ended,
    events,
    finish,
    parts,
    run_of,
    stamps,
    start,
    wait_until,
    write_config,
)

SLOW = {
    "synthesis__num_images": 200,
    "synthesis__iterations": 200,
    "training__inner": {"steps": 60},
    "training__epochs": 4,
    "evaluation__slice_size": 8,
    "evaluation__attacks": [{"name": "pgd", "steps": 500}],
}
NUM_PARTS, NUM_UPDATES = 6, 20


pytestmark = [pytest.mark.ray, pytest.mark.slow]


def pid_of(run, worker):
    return next(e["pid"] for e in events(run, "worker_started") if e["worker"] == worker)


def committed(run):
    return {name: stamp for name, stamp in stamps(run).items() if name.endswith(".parquet")}


def student(run):
    # The model card belongs to the report.
    return {name: c for name, c in contents(run / "student").items() if name != "README.md"}


def at_work(run):
    """The units that workers have begun and neither ended nor lost, by worker."""
    units = {}
    for event in events(run, "unit_started", "unit_done", "worker_lost"):
        if event["event"] == "unit_started":
            units[event["worker"]] = event["unit"]
        else:
            units.pop(event["worker"], None)
    return units


@pytest.fixture(scope="module")
def undisturbed(finished, tmp_path_factory):
    """The run folder that the slow configuration gives in one process that nobody kills."""
    config = write_config(tmp_path_factory.mktemp("undisturbed"), **SLOW)
    shutil.copytree(finished / "runs" / "tiny" / "teacher", run_of(config) / "teacher")
    finish("run", config)
    return run_of(config)


@pytest.fixture
def slow(undisturbed, tmp_path):
    """A function that gives a slow configuration whose run has some stages done."""

    def make(*stages):
        config = write_config(tmp_path / "disturbed", **SLOW)
        for stage in stages:
            shutil.copytree(undisturbed / stage, run_of(config) / stage)
        return config

    return make


def test_a_killed_actor_is_replaced_and_only_its_part_is_begun_again(cluster, slow, undisturbed):
    config = slow("teacher")
    run = run_of(config)
    address = f"cluster.address={cluster.address}"
    process = start("synthesize", config, address, "cluster.num_workers=2")
    wait_until(lambda: parts(run) and len(at_work(run)) == 2, process)
    before, victim = committed(run), "worker-1"
    os.kill(pid_of(run, victim), signal.SIGKILL)
    answer = ended(process)
    assert answer.code == 0, answer
    assert "Traceback" not in answer.err

    assert answer.out == ""
    (lost,) = events(run, "worker_lost")
    assert lost["worker"] == victim
    assert f"{lost['unit']} is begun again" in answer.err
    starts = [e for e in events(run, "unit_started") if e["unit"] == lost["unit"]]
    assert len(starts) == 2
    assert starts[0]["worker"] == victim != starts[1]["worker"]
    assert len(events(run, "unit_started")) == NUM_PARTS + 1
    assert before.items() <= committed(run).items()
    assert contents(run / "synthetic") == contents(undisturbed / "synthetic")


def test_a_killed_training_worker_does_not_show_in_the_student(cluster, slow, undisturbed):
    config = slow("teacher", "synthetic")
    run = run_of(config)
    address = f"cluster.address={cluster.address}"
    process = start("train", config, address, "cluster.num_workers=2")
    wait_until(lambda: len(events(run, "checkpoint")) >= 3, process)
    os.kill(pid_of(run, "rank-1"), signal.SIGKILL)
    answer = ended(process)
    assert answer.code == 0, answer
    assert "Traceback" not in answer.err
    assert "lost; the group goes on from the last checkpoint" in answer.err
    assert "rank-1" in {e["worker"] for e in events(run, "worker_lost")}
    began, again = events(run, "training_started")
    assert began["updates"] == 0
    assert again["updates"] >= 3
    assert len(events(run, "update")) - NUM_UPDATES <= 2
    assert student(run) == student(undisturbed)
    assert not (run / ".ray-train").exists()


@pytest.fixture(scope="module")
def shrinking():
    """A cluster of one node with one GPU, and a function that gives it one with two."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 2, "num_gpus": 1, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={**head, "_system_config": QUICK_DEATH})

    def grow():
        node = cluster.add_node(num_cpus=2, num_gpus=2)
        cluster.wait_for_nodes()
        return node

    yield cluster, grow
    cluster.shutdown()


def test_a_node_that_is_lost_is_not_waited_for(shrinking, slow, undisturbed):
    cluster, grow = shrinking
    config = slow("teacher")
    run, first = run_of(config), grow()
    quick = ("evaluation.attacks=[]", "evaluation.num_images=10")
    process = start("run", config, f"cluster.address={cluster.address}", *quick)
    wait_until(lambda: parts(run) and len(at_work(run)) == 3, process)
    before = committed(run)
    cluster.remove_node(first, allow_graceful=False)
    second = grow()
    wait_until(lambda: len(events(run, "checkpoint")) >= 3, process)
    cluster.remove_node(second, allow_graceful=False)
    answer = ended(process)
    assert answer.code == 0, answer
    assert "Traceback" not in answer.err
    assert "raylet" not in answer.out.lower()

    node_of = {e["worker"]: e["node"] for e in events(run, "worker_started")}
    lost = [e for e in events(run, "worker_lost") if e["unit"]]
    assert {node_of[e["worker"]] for e in lost} == {first.node_id}
    assert sum("is begun again" in line for line in answer.err.splitlines()) == len(lost) == 2
    assert before.items() <= committed(run).items()
    assert contents(run / "synthetic") == contents(undisturbed / "synthetic")
    began, again = events(run, "training_started")
    assert (began["updates"], again["updates"] >= 3) == (0, True)
    assert second.node_id in {
        e["node"] for e in events(run, "worker_started") if e["worker"].startswith("rank-")
    }
    assert student(run) == student(undisturbed)


def test_a_driver_killed_in_every_phase_repeats_nothing(slow, undisturbed):
    config = slow("teacher")
    run = run_of(config)

    def slices(of=run):
        files = contents(of / "evaluation" / "slices")
        return {n: json.loads(c) for n, c in files.items() if n.endswith(".json")}

    def killed_when(condition):
        process = start("run", config, "cluster.address=local")
        wait_until(condition, process)
        process.kill()
        assert ended(process).code == -signal.SIGKILL

    killed_when(lambda: parts(run) and at_work(run))
    images = committed(run)
    assert 1 <= len(images) < NUM_PARTS
    killed_when(lambda: len(events(run, "checkpoint")) >= 3)
    assert images.items() <= committed(run).items()
    images = committed(run)
    assert not (run / "student" / "model.safetensors").exists()
    killed_when(lambda: any("pgd" in name for name in slices()))
    measured = stamps(run / "evaluation" / "slices")
    model = stamps(run)["student/model.safetensors"]
    answer = finish("run", config, "cluster.address=local")
    assert "Traceback" not in answer.err

    assert committed(run) == images
    assert stamps(run)["student/model.safetensors"] == model
    assert measured.items() <= stamps(run / "evaluation" / "slices").items()
    assert contents(run / "synthetic") == contents(undisturbed / "synthetic")
    assert student(run) == student(undisturbed)
    assert events(run, "training_started")[-1]["updates"] >= 3
    assert len(slices()) == 20
    assert {n: verdicts(v) for n, v in slices().items()} == {
        n: verdicts(v) for n, v in slices(undisturbed).items()
    }
    assert not (run / ".ray-train").exists()
    assert (run / "report" / "index.html").exists()


def verdicts(content):
    return {key: value for key, value in content.items() if "seconds" not in key}
