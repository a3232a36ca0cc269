"""The actor that does the units of tasks: one for each GPU or CPU slot."""

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
from dfshield.distributed.workers.device import free_memory, own_gpus, take_device, uuid_of
from dfshield.distributed.workers.message_queue import RemoteMonitor
from dfshield.engine.acceleration import CompilationError
from dfshield.errors import DfshieldError, InputError, UnfitDeviceError, one_line
from dfshield.runs import Engine, Job, Reproducibility, Task, Worker


@dataclass(frozen=True)
class WorkerInfo:
    """The node, process and GPUs of a worker.

    Attributes:
        node: Ray's id of its node.
        host: the node's name.
        pid: its process id there.
        gpus: Ray's ids of its GPUs.
        uuid: that of the GPU it computes on; empty on CPUs.
    """

    node: str
    host: str
    pid: int
    gpus: tuple[str, ...]
    uuid: str = ""


class PoolWorker:
    """An actor that prepares a task once and then does one unit per call.

    Args:
        name: the worker's.
        queue: handle of the `MessageQueue`.
        version: of dfshield on the driver.
        share: of its GPU's memory that it may take.
    """

    def __init__(
        self, name: str, queue: ActorHandle[Any], version: str, share: float = 1.0
    ) -> None:
        self._name = name
        self._driver_version = version
        self._share = share
        self._device = torch.device("cpu")
        self._monitor = RemoteMonitor(queue, name)
        self._objects: list[object] = []
        self._work: Callable[[Any], Any] | None = None
        self._reproducibility: Reproducibility | None = None

    def prepare(self, task: Task[Hashable, object], engine: Engine) -> WorkerInfo:
        """Load what all units of a task need; return where this worker is.

        Raises:
            DfshieldError: as the task raised it; an `InputError` with the name of this machine,
                also where dfshield or torch has another version than on the driver.
            CompilationError: if the work is bound to compiled code, which this machine cannot make.
            OtherDeviceError: if its GPU is another one than that of the engine, or the task says
                so.
            UnfitDeviceError: if its GPU cannot be computed on, or has no room for the task.
            CodeError: for any other error of the task.
        """
        engine.bind()
        self._work = None  # frees the memory of the last task first
        free_memory()
        self._reproducibility = Reproducibility(engine, self._monitor, self._name)
        with _errors_of_worker(), _errors_of_device(), self._reproducibility.watched():
            _require("dfshield", __version__, self._driver_version)
            _require("torch", str(torch.__version__), engine.torch)
            self._device = take_device(engine, share=self._share)
            engine.require_accelerator()
            worker = Worker(
                self._device,
                self._monitor,
                put=self._objects.append,
                preempted=self._monitor.preempted,
                first=self._monitor.first,
            )
            self._work = task.prepare(worker)
        self._monitor.flush()  # its messages reach the driver before it is given a unit
        return self.info()

    def info(self) -> WorkerInfo:
        """Return where this worker is; the driver calls it to see that the worker is alive."""
        return worker_info(self._device)

    def do(self, unit: Hashable) -> tuple[tuple[object, bool], object]:
        """Do a unit.

        Returns:
            Its result with whether it gave an object to `Worker.put`, and that object as a second
            return value, so that the driver gets a reference without the object.

        Raises:
            DfshieldError: as the task raised it; an `InputError` with this machine's name.
            CodeError: for any other error of the task.
        """
        assert self._work is not None
        assert self._reproducibility is not None
        self._objects.clear()
        try:
            with _errors_of_worker(), self._reproducibility.watched():
                result = self._work(unit)
        finally:
            self._monitor.flush()  # its messages reach the driver before its result does
        stored = self._objects.pop() if self._objects else None
        return (result, stored is not None), stored


@dataclass(frozen=True)
class JobTask:
    """A job as a task of one unit."""

    job: Job[Any]

    def prepare(self, worker: Worker) -> Callable[[int], Any]:
        """Return a function that does the job."""
        return lambda _: self.job.run(worker)

    def label(self, unit: int) -> str:
        """Return the name of the job, for messages."""
        return f"{type(self.job).__name__.removeprefix('_')} {unit}"


def _require(name: str, here: str, wanted: str) -> None:
    """Check a version: nodes that joined after the survey have not been checked yet."""
    if here != wanted:
        raise InputError(f"{name} {here} is installed, but {wanted} is needed: install that")


@contextmanager
def _errors_of_worker() -> Iterator[None]:
    """Add this machine's name to an `InputError`, and make other errors picklable."""
    try:
        with naming_this_machine():
            yield
    except CompilationError:
        raise
    except InputError as error:
        raise InputError(f"{error} (on {os.uname().nodename}, where a worker runs)") from None
    except UnfitDeviceError as error:
        unfit = type(error)(f"{error} (on {os.uname().nodename})")
        unfit.gpu = "/".join([ray.get_runtime_context().get_node_id(), *own_gpus()])
        raise unfit from None
    except DfshieldError:
        raise
    except Exception as error:
        raise CodeError.of(error) from error


@contextmanager
def naming_this_machine() -> Iterator[None]:
    """Add this machine's name to a `CompilationError`: it alone, maybe, has no compiler."""
    try:
        yield
    except CompilationError as error:
        raise CompilationError(f"{error} (on {os.uname().nodename})") from None


@contextmanager
def _errors_of_device() -> Iterator[None]:
    """Raise what comes of the GPU as such: no unit has been begun whose fault it might be."""
    try:
        yield
    except (torch.OutOfMemoryError, torch.AcceleratorError) as error:
        raise UnfitDeviceError(f"its GPU cannot be used now: {one_line(error)}") from error


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


def worker_info(device: torch.device) -> WorkerInfo:
    """Return node, process and GPUs of this process, which computes on a device."""
    context = ray.get_runtime_context()
    return WorkerInfo(
        node=context.get_node_id(),
        host=os.uname().nodename,
        pid=os.getpid(),
        gpus=own_gpus(),
        uuid=uuid_of(device),
    )
