"""Processes and nodes that die in the middle: the work is finished, and nothing is done twice."""

import json
import os
import shutil
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from contract_tasks import Square, Sum
from ray_cluster import QUICK_DEATH
from test_executor_contract import Recorder
from tiny_run import (
    contents,
    ended,
    events,
    finish,
    parts,
    stamps,
    start,
    wait_until,
    write_config,
)

from dfshield.config import load_config
from dfshield.distributed import group, pool
from dfshield.distributed.letters import Letters
from dfshield.errors import DfshieldError, InputError
from dfshield.runs import Engine, InProcessExecutor
from dfshield.runs.synthesis import SynthesisTask
from dfshield.storage import Folder, read_manifest

SLOW = {
    "synthesis__num_images": 200,
    "synthesis__iterations": 200,
    "training__inner": {"steps": 60},
    "training__epochs": 4,
    "evaluation__slice_size": 8,
    "evaluation__attacks": [{"name": "pgd", "steps": 500}],
}
NUM_PARTS, NUM_UPDATES = 6, 20


def on_ray(test):
    return pytest.mark.ray(pytest.mark.slow(test))


def run_of(config):
    return config.parent / "runs" / "tiny"


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


class Withdrawals(Recorder):
    """Remembers, too, what was taken back of the progress."""

    def __init__(self):
        super().__init__()
        self.withdrawn = []

    def advance(self, amount):
        super().advance(amount)
        if amount < 0:
            self.withdrawn.append(amount)


@pytest.fixture
def recorder():
    return Withdrawals()


def mapped(executor, recorder, task, groups):
    return list(executor.map(task, groups, engine=executor.engine(), monitor=recorder))


def idle_workers(executor, tmp_path):
    """Let the executor start its two workers; return their process ids."""
    pids, unit = set(), 100
    while len(pids) < 2:
        mapped(executor, Recorder(), Square(tmp_path, seconds=1.5), [[unit], [unit + 1]])
        pids = {pid_of_try(path) for n in (unit, unit + 1) for path in tries(tmp_path, n)}
        unit += 2
    return pids


def tries(marks, unit):
    return list(marks.glob(f"unit-{unit}-*"))


def pid_of_try(path):
    return int(path.name.rpartition("-")[2])


# Units and their workers


@on_ray
def test_a_lost_worker_costs_a_retry_and_its_progress_is_not_counted_twice(
    on_cluster, recorder, tmp_path
):
    idle_workers(on_cluster, tmp_path)
    time.sleep(1.0)  # what they tell next is sent at once
    task = Square(tmp_path, crashes_once=frozenset({10}), seconds=1.0)
    done = mapped(on_cluster, recorder, task, [[10, 11], [12]])
    assert sorted((d.unit, d.result) for d in done) == [(10, 100), (11, 121), (12, 144)]
    assert [task.tries(unit) for unit in (10, 11, 12)] == [2, 1, 1]
    assert recorder.retries == 1
    (lost,) = recorder.all("worker_lost")
    assert lost["unit"] == "unit 10"
    assert any("unit 10 is begun again" in line for line in recorder.said)
    assert recorder.withdrawn == [-0.5]
    assert recorder.amount == pytest.approx(3)


@on_ray
def test_a_unit_that_kills_its_workers_is_given_up_and_the_others_are_done(
    on_cluster, recorder, tmp_path
):
    task = Square(tmp_path, crashes=frozenset({2}))
    engine, done = on_cluster.engine(), []
    with pytest.raises(DfshieldError, match=r"^unit 2: given up after 2 retries: ") as raised:
        done.extend(
            d.unit
            for d in on_cluster.map(task, [[0, 1, 2, 3], [4, 5]], engine=engine, monitor=recorder)
        )
    assert "\n" not in str(raised.value)
    assert raised.value.exit_code == 3
    assert task.tries(2) == 3
    assert recorder.retries == 2
    assert [e["unit"] for e in recorder.all("unit_done")].count("unit 3") == 1
    assert {e["unit"] for e in recorder.all("unit_done")} == {f"unit {n}" for n in (0, 1, 3, 4, 5)}


@on_ray
def test_workers_that_die_while_nobody_needs_them_cost_no_unit_a_try(
    on_cluster, recorder, tmp_path
):
    for pid in idle_workers(on_cluster, tmp_path):
        os.kill(pid, signal.SIGKILL)
    task = Square(tmp_path, crashes=frozenset({7}), seconds=3.0)

    def kill_the_idle_one():
        while not (tries(tmp_path, 7) and len(recorder.all("worker_started")) == 2):
            time.sleep(0.01)
        workers = {e["pid"] for e in recorder.all("worker_started")}
        (idle,) = workers - {pid_of_try(tries(tmp_path, 7)[0])}
        os.kill(idle, signal.SIGKILL)

    threading.Thread(target=kill_the_idle_one).start()
    with pytest.raises(DfshieldError, match="given up after 2 retries"):
        mapped(on_cluster, recorder, task, [[7]])
    assert task.tries(7) == 3
    lost = Counter(e["unit"] for e in recorder.all("worker_lost"))
    assert lost == {"unit 7": 3, None: 3}


@on_ray
def test_workers_that_die_as_they_start_end_the_work_in_one_line(on_cluster, recorder, tmp_path):
    class Deadly:  # sent to the workers whole, as they cannot import this module
        def prepare(self, worker):
            import os

            (tmp_path / f"start-{os.getpid()}").touch()
            os._exit(1)

        def label(self, unit):
            return str(unit)

    with pytest.raises(DfshieldError, match=r"^workers die as they start: ") as raised:
        mapped(on_cluster, recorder, Deadly(), [[0], [1]])
    assert "\n" not in str(raised.value)
    assert 3 <= len(list(tmp_path.glob("start-*"))) <= 2 * 3 + 2
    (done,) = mapped(on_cluster, recorder, Square(tmp_path), [[3]])
    assert done.result == 9


@on_ray
def test_a_full_cluster_is_waited_for_and_said(on_cluster, tmp_path, monkeypatch):
    import ray

    for module in (pool, group):
        monkeypatch.setattr(module, "SECONDS_UNTIL_WAITING_IS_SAID", 1.0)
    with pytest.raises(InputError):  # lets go of the workers that there are
        mapped(on_cluster, Recorder(), Square(tmp_path, refuses=frozenset({0})), [[0]])

    class Holder:
        def hold(self):
            return True

    class Patient(Recorder):
        def say(self, text):
            super().say(text)
            if text.startswith("Waiting for"):
                while holders:
                    ray.kill(holders.pop())

    for work in ("pool", "group"):
        holders = [ray.remote(Holder).options(num_gpus=1, num_cpus=0).remote() for _ in range(4)]
        ray.get([holder.hold.remote() for holder in holders])
        patient = Patient()
        if work == "pool":
            mapped(on_cluster, patient, Square(tmp_path), [[6]])
            with pytest.raises(InputError):
                mapped(on_cluster, patient, Square(tmp_path, refuses=frozenset({0})), [[0]])
        else:
            job = Sum(tmp_path / "sum")
            on_cluster.run_group(job, engine=on_cluster.engine(), monitor=patient)
            assert job.path.exists()
        assert any(line.startswith("Waiting for") for line in patient.said)


@on_ray
def test_a_lost_mailbox_ends_the_work_in_one_line(on_cluster, recorder):
    import ray

    on_cluster.engine()  # joins the cluster
    letters = Letters()
    assert letters.deliver(recorder) == []
    ray.kill(letters.mailbox)
    with pytest.raises(DfshieldError, match="give the same command again") as raised:
        letters.deliver(recorder)
    assert "\n" not in str(raised.value)


# Groups


@on_ray
def test_a_group_that_loses_a_worker_starts_again(on_cluster, recorder, tmp_path):
    job = Sum(tmp_path / "sum", crashes_once=True)
    on_cluster.run_group(job, engine=on_cluster.engine(), monitor=recorder)
    assert job.path.read_text().startswith("3.0 [0, 1]")
    assert recorder.retries == 1
    assert "rank-1" in {e["worker"] for e in recorder.all("worker_lost")}
    assert any("goes on from the last checkpoint" in line for line in recorder.said)


@on_ray
def test_a_group_whose_worker_always_dies_is_given_up_in_one_line(on_cluster, recorder, tmp_path):
    class Deadly:
        max_workers = 2

        def run(self, worker):
            import os

            if worker.group.rank == 1:
                (tmp_path / f"start-{os.getpid()}").touch()
                os._exit(1)
            worker.group.all_gather(0)

    with pytest.raises(DfshieldError, match=r"^the training group was lost.* 2 retries") as raised:
        on_cluster.run_group(Deadly(), engine=on_cluster.engine(), monitor=recorder)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300
    assert raised.value.exit_code == 3
    assert len(list(tmp_path.glob("start-*"))) == 3


# Whole commands


@on_ray
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


@on_ray
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


@on_ray
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


@on_ray
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


# Without Ray


def test_a_part_that_a_lost_worker_had_committed_is_not_made_again(tiny, tmp_path):
    config = load_config(str(tiny(keep=("teacher", "synthetic"))), ())
    run = Path(config.storage.path) / "tiny"
    manifest = read_manifest(Folder.at(run / "synthetic"))
    task = SynthesisTask(
        teacher=str(run / "teacher"),
        data=str(run / "synthetic"),
        synthesis=config.synthesis,
        sink="parquet",
    )
    part = manifest.parts[0]
    file, executor = run / "synthetic" / part.path, InProcessExecutor()

    def made():
        recorder = Recorder()
        engine = Engine.from_json(manifest.engine)
        (done,) = executor.map(task, [[part]], engine=engine, monitor=recorder)
        return done.result.checksum, recorder.amount

    before, expected = stamps(run), file.read_bytes()
    checksum, images = made()
    assert images == 0
    assert stamps(run) == before
    file.write_bytes(expected[:-10])
    assert made() == (checksum, pytest.approx(part.num_images))
    assert file.read_bytes() == expected
