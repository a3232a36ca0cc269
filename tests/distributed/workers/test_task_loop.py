"""The loop over the workers, with a simulated Ray whose calls end in an order drawn at random."""

import random
from collections import Counter
from itertools import count
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import ray
import torch
from ray.actor import ActorHandle

from dfshield.distributed.workers import task_loop, worker_handles
from dfshield.distributed.workers.code_errors import CodeError
from dfshield.distributed.workers.gpu_record import GpuRecord
from dfshield.distributed.workers.messages import MessageReader
from dfshield.distributed.workers.work_queue import WorkQueue
from dfshield.distributed.workers.worker import WorkerInfo
from dfshield.distributed.workers.worker_handles import PoolWorkerHandle, PoolWorkers
from dfshield.engine.acceleration import CompilationError
from dfshield.errors import DfshieldError, OtherDeviceError, UnfitDeviceError
from dfshield.runs import Engine, SilentMonitor

ENGINE = Engine(device="cpu", threads=1, torch="2")


class SimulatedRay(PoolWorkers):
    """Also the pool of workers. A call is lost with a probability, or ends with a result."""

    ObjectRef = ray.ObjectRef
    exceptions = ray.exceptions

    def __init__(self, draw, workers, *, losses=0.0):
        self.draw, self.losses = draw, losses
        self.numbers, self.results, self.waits = count(), {}, 0
        head = SimpleNamespace(answers=lambda: True)
        self.capacity = SimpleNamespace(head=head, num_workers=lambda: workers)
        self._handles, self.benched, self.gpus = [], [], GpuRecord()
        for _ in range(workers):
            self.add()

    def add(self, *, failed_starts=0, late=True):
        info = WorkerInfo(node="node", host="host", pid=1, gpus=())
        actor = Mock(spec=ActorHandle)
        actor.prepare = SimpleNamespace(remote=lambda task, engine: self.put(info))
        actor.info = SimpleNamespace(remote=lambda: self.put(info))
        does = SimpleNamespace(remote=lambda unit: [self.put(self.ending(unit)), None])
        actor.do = SimpleNamespace(options=lambda num_returns: does)
        worker = PoolWorkerHandle(f"worker-{next(self.numbers)}", actor, failed_starts, late)
        self._handles.append(worker)
        return worker

    def drop(self, worker):
        self._handles.remove(worker)

    def ending(self, unit):
        if self.draw.random() < self.losses:
            return ray.exceptions.WorkerCrashedError()
        return (unit, False)

    def put(self, value):
        ref = ray.ObjectRef(next(self.numbers).to_bytes(28, "big"))
        self.results[ref] = value
        return ref

    def get(self, ref):
        value = self.results.pop(ref)
        if isinstance(value, Exception):
            raise value
        return value

    def wait(self, refs, *, num_returns=1, timeout):
        """Of many calls some have ended, and now and then none; who waits for one gets one."""
        self.waits += 1
        ended = [ref for ref in refs if self.draw.random() < 0.5] if timeout == 0 else refs
        ready = self.draw.sample(ended, k=min(num_returns, len(ended)))
        return ready, [ref for ref in refs if ref not in ready]


class Reader(MessageReader):
    """Reads no messages."""

    def deliver(self, monitor):
        return []


class Task:
    """Nothing is done."""

    def prepare(self, worker):
        raise NotImplementedError

    def label(self, unit):
        return str(unit)


class Log(SilentMonitor):
    """Keeps the events."""

    def __init__(self):
        self.events, self.said = [], []

    def say(self, text):
        self.said.append(text)

    def emit(self, event, **fields):
        self.events.append((event, fields))

    def advance(self, amount):
        pass


def looped(monkeypatch, simulated, groups, max_retries):
    for module in (task_loop, worker_handles):
        monkeypatch.setattr(module, "ray", simulated)
    monkeypatch.setattr(task_loop, "draining_nodes", frozenset)
    log = Log()
    queue = WorkQueue(groups, max_retries=max_retries)
    loop = task_loop.TaskLoop(simulated, Reader(), Task(), queue, ENGINE, log)
    return loop, log


@pytest.mark.parametrize("seed", range(20))
def test_every_unit_is_done_once_whatever_ends_together(monkeypatch, seed):
    draw = random.Random(seed)
    sizes = [draw.randint(1, 5) for _ in range(draw.randint(1, 8))]
    groups = [[(i, n) for n in range(size)] for i, size in enumerate(sizes)]
    simulated = SimulatedRay(draw, draw.randint(1, 6), losses=0.2)
    loop, log = looped(monkeypatch, simulated, groups, max_retries=50)
    done = Counter(made.unit for made in loop.run())
    assert done == Counter(unit for group in groups for unit in group)
    told = Counter(event for event, _ in log.events)
    assert told["unit_done"] == sum(sizes)
    assert told["unit_retried"] == told["worker_lost"]
    assert told["unit_started"] == told["unit_done"] + told["unit_retried"]
    at_work = {}
    for event, fields in log.events:
        if event == "unit_started":
            assert fields["worker"] not in at_work
            at_work[fields["worker"]] = fields["unit"]
        elif event in ("unit_done", "worker_lost"):
            assert at_work.pop(fields["worker"]) == fields["unit"]
    assert not at_work


def test_a_unit_that_kills_its_workers_is_given_up_and_the_others_are_done(monkeypatch):
    simulated = SimulatedRay(random.Random(0), 3)
    usual = simulated.ending
    lost = ray.exceptions.WorkerCrashedError()
    simulated.ending = lambda unit: lost if unit == "bad" else usual(unit)
    loop, log = looped(monkeypatch, simulated, [["a", "bad", "b"], ["c", "d"]], max_retries=2)
    done = []
    with pytest.raises(DfshieldError, match="bad: given up after 2 retries"):
        done.extend(made.unit for made in loop.run())
    assert sum(event == "worker_lost" for event, _ in log.events) == 3
    told = sorted(fields["unit"] for event, fields in log.events if event == "unit_done")
    assert told == ["a", "b", "c", "d"]


def test_calls_that_have_ended_are_asked_for_together(monkeypatch):
    simulated = SimulatedRay(random.Random(0), 100)
    loop, _ = looped(monkeypatch, simulated, [range(n, n + 10) for n in range(0, 2000, 10)], 0)
    assert len(list(loop.run())) == 2000
    assert simulated.waits < 200


# ---------------------------------------------------------------- GPUs that fail

POISON = "poison"


def raised(cause):
    """A call's error, as Ray hands it out."""
    return ray.exceptions.RayTaskError("do", "a traceback", cause)


class SimulatedGpus(SimulatedRay):
    """A worker is placed on the first free GPU, and holds it until it is dropped.

    Args:
        gpus: how each does: ``good``; ``crashes``: it takes the process of every unit along;
            ``fails``: it raises an error that leaves the process alive; ``unfit``: workers cannot
            use it; ``other``: it computes other numbers than the work was begun with;
            ``uncompiled``: its node has no compiler, which the work is bound to.
    """

    def __init__(self, **gpus):
        self.kinds, self.free, self.waiting = gpus, list(gpus), []
        self.tried = []  # unit and GPU
        super().__init__(random.Random(0), len(gpus))

    def add(self, *, failed_starts=0, late=True):
        worker = super().add(failed_starts=failed_starts, late=late)
        worker.actor.prepare = SimpleNamespace(remote=lambda task, engine: self.start(worker))
        does = SimpleNamespace(remote=lambda unit: [self.put(self.ended(worker, unit)), None])
        worker.actor.do = SimpleNamespace(options=lambda num_returns: does)
        return worker

    def start(self, worker):
        ref = self.put(None)
        del self.results[ref]
        self.waiting.append((worker, ref))
        return ref

    def wait(self, refs, **options):
        while self.free and self.waiting:
            worker, ref = self.waiting.pop(0)
            worker.on = self.free.pop(0)
            unfit = UnfitDeviceError("busy")
            unfit.gpu = worker.on
            other = OtherDeviceError("an A100, but an H100 began")
            other.gpu = worker.on
            uncompiled = CompilationError("this student cannot be compiled here (on node-3)")
            errors = {"unfit": unfit, "other": other, "uncompiled": uncompiled}
            error = errors.get(self.kinds[worker.on])
            fine = WorkerInfo("node", "host", 1, ("0",), uuid=worker.on)
            self.results[ref] = fine if error is None else raised(error)
        return super().wait([ref for ref in refs if ref in self.results], **options)

    def drop(self, worker):
        super().drop(worker)
        self.free.append(worker.on)

    def kill(self, actor):
        """A worker on the bench lets go of its GPU."""
        (worker,) = [worker for worker in self.benched if worker.actor is actor]
        self.free.append(worker.on)

    def ended(self, worker, unit):
        self.tried.append((unit, worker.on))
        kind = self.kinds[worker.on]
        if unit == POISON or kind == "crashes":
            return ray.exceptions.WorkerCrashedError()
        if kind == "fails":
            return raised(CodeError("CUDA error: unspecified launch failure", None))
        return (unit, False)


@pytest.fixture
def no_waiting(monkeypatch):
    """The cluster is looked at whenever it may be."""
    monkeypatch.setattr(task_loop, "CLUSTER_CHECK_S", 0.0)
    monkeypatch.setattr(task_loop.time, "sleep", lambda seconds: None)


@pytest.mark.parametrize("kind", ["crashes", "fails", "unfit"])
@pytest.mark.parametrize("max_retries", [1, 3])
def test_a_gpu_that_fails_twice_gets_no_more_work_and_no_try_counts(
    monkeypatch, no_waiting, kind, max_retries
):
    simulated = SimulatedGpus(bad=kind, good="good", other="good")
    groups = [[(i, n) for n in range(8)] for i in range(4)]
    loop, log = looped(monkeypatch, simulated, groups, max_retries=max_retries)
    done = Counter(made.unit for made in loop.run())
    assert done == Counter(unit for group in groups for unit in group)
    assert sum(gpu == "bad" for _, gpu in simulated.tried) == (0 if kind == "unfit" else 2)
    (told,) = [fields for event, fields in log.events if event == "gpu_kept_out"]
    assert told["gpu"] == "bad"
    assert not loop.queue._tries or max(loop.queue._tries.values()) <= 1
    # Its worker holds it, so that Ray gives it to no other; and the next task knows.
    assert [worker.on for worker in simulated.benched] == ["bad"]
    assert simulated.num_wanted() == 2


def test_a_unit_that_kills_its_workers_everywhere_does_not_cost_the_gpus(monkeypatch, no_waiting):
    simulated = SimulatedGpus(a="good", b="good", c="good")
    groups = [[POISON, *range(4)], range(10, 20), range(20, 30)]
    loop, _ = looped(monkeypatch, simulated, groups, max_retries=2)
    done = []
    with pytest.raises(DfshieldError, match="poison: given up after 2 retries"):
        done.extend(made.unit for made in loop.run())
    assert sorted(done) == [*range(4), *range(10, 20), *range(20, 30)]
    assert simulated.benched == []
    assert 3 <= sum(unit == POISON for unit, _ in simulated.tried) <= 5


def test_where_every_gpu_fails_the_work_ends_in_one_line(monkeypatch, no_waiting):
    simulated = SimulatedGpus(a="unfit", b="unfit")
    loop, _ = looped(monkeypatch, simulated, [[1, 2], [3]], max_retries=2)
    with pytest.raises(DfshieldError, match="workers die as they start: busy") as raised:
        list(loop.run())
    assert "\n" not in str(raised.value)


def done_by_the_good_one(monkeypatch, order, kind):
    """Have all units done where every GPU but the good one is of a kind."""
    simulated = SimulatedGpus(**{gpu: "good" if gpu == "good" else kind for gpu in order})
    groups = [[(i, n) for n in range(8)] for i in range(4)]
    loop, log = looped(monkeypatch, simulated, groups, max_retries=1)
    done = Counter(made.unit for made in loop.run())
    assert done == Counter(unit for group in groups for unit in group)
    assert {gpu for _, gpu in simulated.tried} == {"good"}
    return simulated, log


@pytest.mark.parametrize("order", [["a", "b", "good"], ["good", "a", "b"]])
def test_gpus_of_other_numbers_are_kept_out_at_once_and_the_others_go_on(
    monkeypatch, no_waiting, order
):
    simulated, log = done_by_the_good_one(monkeypatch, order, "other")
    kept_out = [fields for event, fields in log.events if event == "gpu_kept_out"]
    assert sorted(fields["gpu"] for fields in kept_out) == ["a", "b"]
    assert all(fields["reason"] == "an A100, but an H100 began" for fields in kept_out)
    assert simulated.num_wanted() == 1


def test_where_all_gpus_are_others_the_work_ends_with_the_reason(monkeypatch, no_waiting):
    simulated = SimulatedGpus(a="other", b="other")
    loop, _ = looped(monkeypatch, simulated, [[1, 2], [3]], max_retries=2)
    with pytest.raises(OtherDeviceError, match=r"^an A100, but an H100 began$"):
        list(loop.run())
    assert simulated.benched == []  # other work may have begun on them


@pytest.mark.parametrize("order", [["a", "b", "good"], ["good", "a", "b"]])
def test_nodes_that_cannot_compile_are_refused_in_one_line_and_the_others_go_on(
    monkeypatch, no_waiting, order
):
    simulated, log = done_by_the_good_one(monkeypatch, order, "uncompiled")
    refused = [line for line in log.said if "cannot take part" in line]
    assert len(refused) == 2
    assert all("cannot be compiled here (on node-3); others go on" in line for line in refused)
    assert simulated.num_wanted() == 1


def test_where_no_node_can_compile_the_work_ends_with_the_reason(monkeypatch, no_waiting):
    simulated = SimulatedGpus(a="uncompiled", b="uncompiled")
    loop, _ = looped(monkeypatch, simulated, [[1, 2], [3]], max_retries=2)
    with pytest.raises(
        CompilationError, match=r"^this student cannot be compiled here \(on node-3"
    ):
        list(loop.run())
    assert simulated.benched == []  # other work need not be compiled


def test_a_busy_gpu_is_taken_when_it_is_free_again(monkeypatch, no_waiting):
    simulated = SimulatedGpus(a="unfit")
    starts = count()
    usual = simulated.start

    def start(worker):
        if next(starts) == 2:
            simulated.kinds["a"] = "good"
        return usual(worker)

    simulated.start = start
    loop, log = looped(monkeypatch, simulated, [[1, 2]], max_retries=3)
    assert [made.unit for made in loop.run()] == [1, 2]
    assert sum(event == "worker_lost" for event, _ in log.events) == 2


def test_a_unit_that_twice_needs_more_memory_is_given_up_with_the_remedy(monkeypatch, no_waiting):
    simulated = SimulatedGpus(a="good", b="good")
    full = CodeError.of(caught(torch.OutOfMemoryError("CUDA out of memory. Tried 9 GiB. GPU 0")))
    usual = simulated.ended

    def ended(worker, unit):
        result = usual(worker, unit)
        return raised(full) if unit == 1 else result

    simulated.ended = ended
    loop, _ = looped(monkeypatch, simulated, [[0, 1, 2], [3, 4]], max_retries=5)
    done = []
    with pytest.raises(DfshieldError, match=r"^1: twice out of GPU memory .*Tried 9 GiB") as told:
        done.extend(made.unit for made in loop.run())
    assert "cluster.gpus_per_worker=1" in str(told.value)
    assert "two workers" not in str(told.value)
    assert sorted(done) == [0, 2, 3, 4]
    assert sum(unit == 1 for unit, _ in simulated.tried) == 2
    assert simulated.benched == []


def caught(error):
    """The error with a traceback."""
    try:
        raise error
    except type(error) as raised:
        return raised
