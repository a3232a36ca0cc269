"""A Ray whose calls have ended as soon as they are made, for what the driver does beside them."""

import time
from collections.abc import Iterator
from itertools import count
from types import SimpleNamespace
from unittest import mock

import ray

from dfshield.distributed.workers import task_loop, worker_handles
from dfshield.distributed.workers.gpu_record import GpuRecord
from dfshield.distributed.workers.message_queue import MessageQueue
from dfshield.distributed.workers.messages import MessageReader
from dfshield.distributed.workers.work_queue import WorkQueue
from dfshield.runs import Engine


class LocalReader(MessageReader):
    """Reads a message queue of this process."""

    def __init__(self) -> None:
        super().__init__()
        self.messages = MessageQueue()

    def ask(self, method: str) -> object:
        return getattr(self.messages, method)()


class SimulatedRay:
    """What the loop over the workers asks of Ray; every call has ended at once."""

    ObjectRef = ray.ObjectRef
    exceptions = ray.exceptions
    ended_calls = staticmethod(worker_handles.PoolWorkers.ended_calls)

    def __init__(self, workers: int, result: object) -> None:
        self.result = result
        self.results: dict[int, object] = {}
        self.numbers = count()
        self.head = SimpleNamespace(answers=lambda: True)
        self.capacity = SimpleNamespace(head=self.head, num_workers=lambda: workers)
        self.gpus, self.benched = GpuRecord(), []
        self.all = tuple(self.worker(f"worker-{n}") for n in range(workers))
        self.staying = list(self.all)

    def worker(self, name: str) -> SimpleNamespace:
        info = task_loop.WorkerInfo(node="a" * 56, host="node-0", pid=1000, gpus=())
        does = SimpleNamespace(remote=lambda unit: [self.put((self.result, False)), None])
        actor = SimpleNamespace(
            prepare=SimpleNamespace(remote=lambda task, engine: self.put(info)),
            do=SimpleNamespace(options=lambda num_returns: does),
        )
        return SimpleNamespace(
            name=name, actor=actor, info=None, draining=False, place=name, gpu=name
        )

    def num_wanted(self) -> int:
        return len(self.all)

    def put(self, value: object) -> int:
        number = next(self.numbers)
        self.results[number] = value
        return number

    def get(self, number: int) -> object:
        return self.results.pop(number)

    def wait(self, numbers: list[int], *, num_returns: int = 1, timeout: float) -> tuple:
        return numbers[:num_returns], numbers[num_returns:]


class SimulatedExecutor:
    """Hands parts to simulated workers by the loop of the Ray executor.

    Attributes:
        done: how many units have been done.

    Args:
        workers: how many.
        result: what they make of every unit.
        longest_s: after how many CPU seconds the loop is cut off.
    """

    def __init__(self, workers: int, result: object, longest_s: float) -> None:
        self.ray, self.longest_s, self.done = SimulatedRay(workers, result), longest_s, 0

    def map(self, task: object, groups: list, *, engine: Engine, monitor: object) -> Iterator:
        queue = WorkQueue(groups, max_retries=3)
        start, reader = time.process_time(), LocalReader()
        with (
            mock.patch.object(task_loop, "ray", self.ray),
            mock.patch.object(worker_handles, "ray", self.ray),
            mock.patch.object(task_loop, "draining_nodes", frozenset),
        ):
            loop = task_loop.TaskLoop(self.ray, reader, task, queue, engine, monitor)
            for done in loop.run():
                yield done
                self.done += 1
                if time.process_time() - start > self.longest_s:
                    return
