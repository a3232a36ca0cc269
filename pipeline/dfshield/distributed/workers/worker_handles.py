"""The workers of a pool on the driver's side: starting them and letting them go."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from dfshield import __version__
from dfshield.distributed.cluster.capacity import Capacity
from dfshield.distributed.intervals import POLL_S
from dfshield.distributed.workers.gpu_record import GpuRecord
from dfshield.distributed.workers.messages import MessageReader
from dfshield.distributed.workers.worker import PoolWorker, WorkerInfo

# A trial of Ray Tune has a placement group, with no room for the workers that it starts.
_NO_GROUP: Any = None
_OUTSIDE = PlacementGroupSchedulingStrategy(_NO_GROUP)


@dataclass(frozen=True)
class Call:
    """A call of a worker under way: of a unit, or (unit None) of ``prepare`` or ``info``.

    ``object_ref`` refers to what the unit gives to `Worker.put`.
    """

    worker: "PoolWorkerHandle"
    unit: Any = None
    object_ref: object = None


@dataclass(eq=False)
class PoolWorkerHandle:
    """One worker of the pool.

    Attributes:
        name: unique; a replacement has another.
        actor: its handle.
        failed_starts: how many workers in a row, each the replacement of the one before, died
            before they had started.
        late: whether it was started after the nodes had been surveyed, so that its node may not
            have been.
        info: where it is, once it has started.
        draining: whether its node is about to be taken away.
        gpu: the name of its GPU, once that is known; empty on CPUs.
    """

    name: str
    actor: ActorHandle[Any]
    failed_starts: int = 0
    late: bool = False
    info: WorkerInfo | None = None
    draining: bool = False
    gpu: str = ""

    @property
    def place(self) -> str:
        """Its name and its host, for messages."""
        return f"{self.name} on {self.info.host}" if self.info else self.name


class PoolWorkers:
    """Workers on the GPUs or CPU slots of a cluster, which they hold until they are released.

    Args:
        capacity: what each takes, and how many the cluster has capacity for.
        reader: of their messages.

    Attributes:
        benched: workers that get no work and hold their GPUs, so that Ray gives them to no other.
        gpus: which of them fail.
    """

    def __init__(self, capacity: Capacity, reader: MessageReader) -> None:
        self.capacity = capacity
        self._reader = reader
        self._handles: list[PoolWorkerHandle] = []
        self.benched: list[PoolWorkerHandle] = []
        self.gpus = GpuRecord()
        self._numbers = count()

    @property
    def all(self) -> tuple[PoolWorkerHandle, ...]:
        """All workers of now."""
        return tuple(self._handles)

    @property
    def staying(self) -> list[PoolWorkerHandle]:
        """The workers whose nodes are not about to be taken away."""
        return [worker for worker in self._handles if not worker.draining]

    def num_wanted(self) -> int:
        """Return how many workers there should be now, beside those on the bench."""
        return self.capacity.num_workers() - len(self.benched)

    def fill(self, most: int) -> None:
        """Start workers until the capacity, or ``most``, is reached."""
        self.capacity.head.wait()
        available = self.capacity.available()
        for number in range(len(self._handles), min(most, self.num_wanted())):
            self.add(late=number >= available)

    def add(self, *, failed_starts: int = 0, late: bool = True) -> PoolWorkerHandle:
        """Start a worker; Ray places it as soon as its resources are free."""
        self.capacity.head.wait()
        name = f"worker-{next(self._numbers)}"
        actor: Any = ray.remote(PoolWorker)
        started = actor.options(
            num_gpus=self.capacity.plan.num_gpus,
            num_cpus=self.capacity.plan.num_cpus,
            max_restarts=0,  # the pool retries units itself, on any worker that is free
            max_task_retries=0,
            scheduling_strategy=_OUTSIDE,
        ).remote(name, self._reader.queue, __version__, self.capacity.plan.num_gpus or 1.0)
        worker = PoolWorkerHandle(name, started, failed_starts, late)
        self._handles.append(worker)
        return worker

    @staticmethod
    def ended_calls(calls: "Mapping[ray.ObjectRef[Any], Call]") -> "list[ray.ObjectRef[Any]]":
        """Return all calls that have ended, or the first that does so within a second.

        Ray looks at every call whenever it is asked, so that one at a time would cost the square of
        the number of workers.
        """
        if not calls:  # every node is about to be taken away
            time.sleep(POLL_S)
            return []
        refs = list(calls)
        ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
        return ready or ray.wait(refs, timeout=POLL_S)[0]

    def drop(self, worker: PoolWorkerHandle) -> None:
        """Kill one worker, dead or not, and forget it."""
        ray.kill(worker.actor)
        self._handles.remove(worker)

    def bench(self, worker: PoolWorkerHandle) -> None:
        """Let a worker hold its GPU and do no work."""
        self._handles.remove(worker)
        self.benched.append(worker)

    def bench_other(self, worker: PoolWorkerHandle) -> None:
        """Let a worker hold its GPU, which computes other numbers than the work was begun with."""
        self.gpus.note_other(worker.gpu)
        self.bench(worker)

    def free_others(self) -> None:
        """Let go of the GPUs of other numbers: other work may have begun on them."""
        for worker in [w for w in self.benched if self.gpus.is_other(w.gpu)]:
            self._free(worker)
        self.gpus.forget_others()

    def end_bench(self) -> None:
        """Kill the workers on the bench whose GPUs are not at fault after all."""
        for worker in [w for w in self.benched if not self.gpus.is_out(w.gpu)]:
            self._free(worker)

    def _free(self, worker: PoolWorkerHandle) -> None:
        ray.kill(worker.actor)
        self.benched.remove(worker)

    def release(self) -> None:
        """Kill all workers, which frees their GPUs, but those on the bench."""
        for worker in self.all:
            self.drop(worker)
