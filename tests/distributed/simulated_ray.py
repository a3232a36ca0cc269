"""A Ray that is only simulated: its calls end in an order drawn at random, its GPUs may fail."""

import random
from itertools import count
from types import SimpleNamespace
from unittest.mock import Mock

import ray
from ray.actor import ActorHandle

from dfshield.distributed.workers import task_loop, worker_handles
from dfshield.distributed.workers.code_errors import CodeError
from dfshield.distributed.workers.gpu_record import GpuRecord
from dfshield.distributed.workers.messages import MessageReader
from dfshield.distributed.workers.work_queue import WorkQueue
from dfshield.distributed.workers.worker import WorkerInfo
from dfshield.distributed.workers.worker_handles import PoolWorkerHandle, PoolWorkers
from dfshield.engine.acceleration import CompilationError
from dfshield.errors import OtherDeviceError, UnfitDeviceError
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
    """A loop over the workers of a simulated Ray, and the log of what it tells."""
    for module in (task_loop, worker_handles):
        monkeypatch.setattr(module, "ray", simulated)
    monkeypatch.setattr(task_loop, "draining_nodes", frozenset)
    log = Log()
    queue = WorkQueue(groups, max_retries=max_retries)
    loop = task_loop.TaskLoop(simulated, Reader(), Task(), queue, ENGINE, log)
    return loop, log


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
