"""The loop over the workers, with a simulated Ray whose calls end in an order drawn at random."""

import random
from collections import Counter
from itertools import count
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import ray
from ray.actor import ActorHandle

from dfshield.distributed.workers import task_loop
from dfshield.distributed.workers.messages import MessageReader
from dfshield.distributed.workers.work_queue import WorkQueue
from dfshield.distributed.workers.worker import WorkerInfo
from dfshield.distributed.workers.worker_handles import PoolWorkerHandle, PoolWorkers
from dfshield.errors import DfshieldError
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
        self._handles = []
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
        self.events = []

    def emit(self, event, **fields):
        self.events.append((event, fields))

    def advance(self, amount):
        pass


def looped(monkeypatch, simulated, groups, max_retries):
    monkeypatch.setattr(task_loop, "ray", simulated)
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
