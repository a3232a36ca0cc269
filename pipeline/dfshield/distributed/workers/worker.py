"""The actor that does the units of tasks: one a GPU, or one a slot of the CPUs."""

import os
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
import torch
from ray.actor import ActorHandle

from dfshield import __version__
from dfshield.distributed.workers.code_errors import CodeError
from dfshield.distributed.workers.message_queue import RemoteMonitor
from dfshield.errors import DfshieldError, InputError
from dfshield.runs import Engine, Job, Task, Worker


@dataclass(frozen=True)
class WorkerInfo:
    """Where a worker is."""

    node: str
    host: str
    pid: int
    gpus: tuple[str, ...]


class PoolWorker:
    """Prepares a task once and then does one unit a call. An actor; it dies with its process."""

    def __init__(self, name: str, mailbox: ActorHandle[Any], version: str) -> None:
        self._driver_version = version
        self._monitor = RemoteMonitor(mailbox, name)
        self._objects: list[object] = []
        self._work: Callable[[Any], Any] | None = None

    def prepare(self, task: Task[Hashable, object], engine: Engine) -> WorkerInfo:
        """Load what all units of a task need; return where this worker is.

        Raises:
            DfshieldError: what the task raised; an `InputError` with this machine's name, also if
                it has another version of dfshield or torch.
            CodeError: for whatever else it raised.
        """
        engine.bind()
        self._work = None  # lets go of the last task's memory first
        worker = Worker(
            torch.device(engine.device),
            self._monitor,
            put=self._objects.append,
            preempted=self._monitor.preempted,
        )
        with _errors_told():
            _require("dfshield", __version__, self._driver_version)
            _require("torch", str(torch.__version__), engine.torch)
            self._work = task.prepare(worker)
        return worker_info()

    def info(self) -> WorkerInfo:
        """Return where this worker is: that it answers tells that it lives."""
        return worker_info()

    def do(self, unit: Hashable) -> tuple[tuple[object, bool], object]:
        """Do a unit.

        Returns:
            Its result with whether it gave an object to `Worker.put`, and that object as a second
            return value, so that the driver gets a reference without the object.

        Raises:
            DfshieldError: what the task raised; an `InputError` with this machine's name.
            CodeError: for whatever else it raised.
        """
        assert self._work is not None
        self._objects.clear()
        try:
            with _errors_told():
                result = self._work(unit)
        finally:
            self._monitor.flush()  # whoever hears of the end has heard of all that was before
        stored = self._objects.pop() if self._objects else None
        return (result, stored is not None), stored


@dataclass(frozen=True)
class JobTask:
    """A job as a task of one unit."""

    job: Job[Any]

    def prepare(self, worker: Worker) -> Callable[[int], Any]:
        """Return what does the job, whatever it is given."""
        return lambda _: self.job.run(worker)

    def label(self, unit: int) -> str:
        """Return how people call it."""
        return f"{type(self.job).__name__.removeprefix('_')} {unit}"


def _require(name: str, here: str, wanted: str) -> None:
    """The nodes were looked at before the work began, but others may have joined since."""
    if here != wanted:
        raise InputError(f"{name} {here} is installed, but {wanted} is needed: install that")


@contextmanager
def _errors_told() -> Iterator[None]:
    """Say where input was wrong: the driver, on its own machine, had found it right."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{error} (on {os.uname().nodename}, where a worker runs)") from None
    except DfshieldError:
        raise
    except Exception as error:
        raise CodeError.of(error) from error


def get(ref: object) -> Any:
    """Return the object that a reference of Ray refers to.

    Raises:
        DfshieldError: if it was lost with the node that held it.
    """
    assert isinstance(ref, ray.ObjectRef)
    try:
        return ray.get(ref)
    except ray.exceptions.RayError:
        raise DfshieldError(
            "surrogate images in the memory of the cluster were lost with their node: give the "
            "same command again, or keep them in files with storage.sink=parquet"
        ) from None


def worker_info() -> WorkerInfo:
    """Return where this process is."""
    context = ray.get_runtime_context()
    return WorkerInfo(
        node=context.get_node_id(),
        host=os.uname().nodename,
        pid=os.getpid(),
        gpus=tuple(context.get_accelerator_ids().get("GPU", [])),
    )
