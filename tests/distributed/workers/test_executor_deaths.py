"""Workers that die under an executor: units are tried again, groups begin again, finitely often."""

import os
import signal
import threading
import time
from collections import Counter

import pytest
from contract_tasks import BadStart, Square, Sum
from test_executor_contract import Recorder

from dfshield.distributed.training import group_driver
from dfshield.distributed.workers import task_loop
from dfshield.distributed.workers.messages import MessageReader
from dfshield.engine.acceleration import CompilationError
from dfshield.errors import DfshieldError, InputError, OtherDeviceError, UnfitDeviceError

pytestmark = [pytest.mark.ray, pytest.mark.slow]


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


@pytest.mark.drill
def test_an_error_that_repeats_is_no_death_and_the_others_are_done(on_cluster, recorder, tmp_path):
    task = Square(tmp_path, raises=frozenset({2}), raises_once=frozenset({4}))
    with pytest.raises(DfshieldError, match=r"^unit 2: .*two workers raised it") as raised:
        mapped(on_cluster, recorder, task, [[0, 1, 2, 3], [4, 5]])
    assert "UnpicklableError: unit 2, try 1 is impossible" in str(raised.value)
    assert raised.value.exit_code == 3
    assert [task.tries(unit) for unit in range(6)] == [1, 1, 2, 1, 2, 1]
    assert {e["unit"] for e in recorder.all("unit_done")} == {f"unit {n}" for n in (0, 1, 3, 4, 5)}
    assert "contract_tasks.py" in recorder.all("worker_error")[0]["error"]


@pytest.mark.drill
def test_an_error_that_repeats_as_workers_start_ends_the_work(on_cluster, recorder):
    with pytest.raises(DfshieldError, match=r"^workers cannot start: OSError: no such") as raised:
        mapped(on_cluster, recorder, BadStart(OSError("no such\nlibrary")), [[0], [1]])
    assert "\n" not in str(raised.value)
    assert len(recorder.all("worker_error")) == 2


@pytest.mark.drill
def test_gpus_that_cannot_be_used_end_the_work_in_one_line(on_cluster, recorder):
    busy = BadStart(UnfitDeviceError("GPU 0 cannot be used now: it is busy"))
    with pytest.raises(DfshieldError, match=r"^workers die as they start: GPU 0 cannot") as raised:
        mapped(on_cluster, recorder, busy, [[0], [1]])
    assert "\n" not in str(raised.value)
    assert recorder.all("worker_error") == []  # it is no error of the code
    # Two of the cluster's GPUs are tried, each until it is known to be at fault or the tries end.
    assert 3 <= len(recorder.all("worker_lost")) <= 6


@pytest.mark.parametrize(
    "kind", [OtherDeviceError, pytest.param(CompilationError, marks=pytest.mark.drill)]
)
def test_devices_of_other_numbers_end_the_work_only_where_all_are(on_cluster, recorder, kind):
    other = BadStart(kind("an A100, but an H100 began"))
    with pytest.raises(kind, match=r"^an A100, but an H100 began \(on ") as raised:
        mapped(on_cluster, recorder, other, [[0], [1]])
    assert "\n" not in str(raised.value)
    assert len(recorder.all("gpu_kept_out")) == 2
    assert recorder.all("worker_lost") == []


@pytest.mark.drill
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


@pytest.mark.drill
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


@pytest.mark.drill
def test_a_full_cluster_is_waited_for_and_said(on_cluster, tmp_path, monkeypatch):
    import ray

    for module in (task_loop, group_driver):
        monkeypatch.setattr(module, "WAITING_NOTICE_S", 1.0)
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


def test_a_lost_message_queue_ends_the_work_in_one_line(on_cluster, recorder):
    import ray

    on_cluster.engine()  # joins the cluster
    reader = MessageReader()
    assert reader.deliver(recorder) == []
    ray.kill(reader.queue)

    def deliver_for(seconds):  # what reaches it before the kill is still answered
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            reader.deliver(recorder)

    with pytest.raises(DfshieldError, match="give the same command again") as raised:
        deliver_for(30)
    assert "\n" not in str(raised.value)


def test_a_group_that_loses_a_worker_starts_again(on_cluster, recorder, tmp_path):
    job = Sum(tmp_path / "sum", crashes_once=True)
    on_cluster.run_group(job, engine=on_cluster.engine(), monitor=recorder)
    assert job.path.read_text().startswith("3.0 [0, 1]")
    assert recorder.retries == 1
    assert "rank-1" in {e["worker"] for e in recorder.all("worker_lost")}
    assert any("goes on from the last checkpoint" in line for line in recorder.said)


@pytest.mark.drill
@pytest.mark.parametrize("times", [1, 9])
def test_a_group_goes_on_after_an_error_but_not_after_the_same_one(
    on_cluster, recorder, tmp_path, times
):
    job = Sum(tmp_path / "sum", raises=times)
    if times == 1:
        on_cluster.run_group(job, engine=on_cluster.engine(), monitor=recorder)
        assert job.path.exists()
    else:
        with pytest.raises(DfshieldError, match=r"^the training failed: .*two workers") as raised:
            on_cluster.run_group(job, engine=on_cluster.engine(), monitor=recorder)
        assert "UnpicklableError: no such thing" in str(raised.value)
    assert len(list(tmp_path.glob("start-*"))) == min(times, 2)
    assert recorder.retries == 1
    assert "contract_tasks.py" in recorder.all("worker_error")[0]["error"]


@pytest.mark.drill
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
