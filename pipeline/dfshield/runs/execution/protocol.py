"""The protocol between the pipeline and the executors that run its tasks and jobs."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch

from dfshield.engine.numerics import Accelerator, accelerator_of
from dfshield.errors import DfshieldError
from dfshield.runs.execution.engine import Engine
from dfshield.runs.execution.engine_choice import Abilities, abilities_here
from dfshield.runs.watching.events import Monitor
from dfshield.training import WorkerGroup

Unit = TypeVar("Unit", bound=Hashable)
Result = TypeVar("Result")
UnitContra = TypeVar("UnitContra", bound=Hashable, contravariant=True)
ResultCo = TypeVar("ResultCo", covariant=True)


@dataclass(frozen=True)
class Worker:
    """The worker process of a task, as the task sees it.

    Attributes:
        device: the torch device to compute on.
        monitor: receives progress, counted in the task's own unit, and events.
        put: stores an object too large to be part of a unit's result; it stays on the machine
            where it was made, and `Done.ref` refers to it.
        preempted: whether this machine is about to be taken away: write a checkpoint.
        first: takes a key and a value; returns the value that a worker gave first for the key, of
            all workers of the executor. It is for what each of them computes and all go by.
    """

    device: torch.device
    monitor: Monitor
    put: Callable[[object], None]
    preempted: Callable[[], bool] = lambda: False
    first: Callable[[str, str], str] = lambda _, value: value


@dataclass(frozen=True)
class GroupWorker:
    """One worker process of a job that several share, as the job sees it.

    Attributes:
        device: the torch device to compute on.
        monitor: receives progress and events; only that of rank 0 passes them on.
        group: all the workers of the job.
        get: returns the object that a `Done.ref` refers to.
        report: takes the metrics of an epoch; every worker has to call it equally often.
        stop_requested: whether somebody asked the job to stop; may differ between workers.
        preempted: whether the machine of any worker is about to be taken away; only rank 0
            knows.
    """

    device: torch.device
    monitor: Monitor
    group: WorkerGroup
    get: Callable[[object], Any]
    report: Callable[[Mapping[str, Any]], None]
    stop_requested: Callable[[], bool]
    preempted: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class Done(Generic[Unit, ResultCo]):
    """One unit that is done.

    Attributes:
        unit: which.
        result: what it returned.
        ref: refers to the object that the unit gave to `Worker.put`; None if it gave none.
        worker: the name of the worker that did it.
    """

    unit: Unit
    result: ResultCo
    ref: object = None
    worker: str = "driver"


@runtime_checkable
class Task(Protocol[UnitContra, ResultCo]):
    """Work of independent units. Picklable; knows nothing of who executes it."""

    def prepare(self, worker: Worker) -> Callable[[UnitContra], ResultCo]:
        """Load what all units need, once per worker, and return the function that does one."""
        ...

    def label(self, unit: UnitContra) -> str:
        """Return how people call a unit."""
        ...


@runtime_checkable
class Job(Protocol[ResultCo]):
    """Work that is one piece, for one worker. Picklable."""

    def run(self, worker: Worker) -> ResultCo:
        """Do it."""
        ...


@dataclass(frozen=True)
class AcceleratorJob:
    """Tells which GPU a worker has."""

    def run(self, worker: Worker) -> Accelerator | None:
        """Return the GPU that the worker computes on."""
        return accelerator_of(worker.device)


@dataclass(frozen=True)
class AbilitiesJob:
    """Tells what of the fast path a worker's machine can do."""

    def run(self, worker: Worker) -> Abilities:  # noqa: ARG002
        """Return what it can do."""
        return abilities_here()


@runtime_checkable
class GroupJob(Protocol):
    """Work that is one piece, for any number of workers together. Picklable.

    It may be started again after a failure, and goes on from what it has written itself.
    """

    @property
    def max_workers(self) -> int:
        """How many workers have something to do."""
        ...

    def run(self, worker: GroupWorker) -> None:
        """Do this worker's share of it, until done or until any worker is asked to stop."""
        ...


@runtime_checkable
class Executor(Protocol):
    """Runs tasks and jobs somewhere."""

    def engine(self) -> Engine:
        """Return the engine that new work would be planned with here."""
        ...

    def num_workers(self) -> int:
        """Return how many workers would share new work."""
        ...

    def abilities(self) -> Abilities:
        """Return what of the fast path the workers can do on their processors."""
        ...

    def map(
        self,
        task: Task[Unit, Result],
        groups: Sequence[Sequence[Unit]],
        *,
        engine: Engine,
        monitor: Monitor,
    ) -> Iterator[Done[Unit, Result]]:
        """Do every unit under an engine and yield each when it is done, in any order.

        The units of a group are for one worker, which does them in order; a worker that would be
        idle helps another one with its group.

        Raises:
            InputError: as soon as a unit raises one, since the other units have the same input.
            OtherDeviceError: if no worker's device computes what the work was begun with.
            DfshieldError: at the end, if a unit could not be done while others could.
        """
        ...

    def run(self, job: Job[Result], *, engine: Engine, monitor: Monitor) -> Result:
        """Do one job under an engine."""
        ...

    def run_group(self, job: GroupJob, *, engine: Engine, monitor: Monitor) -> None:
        """Do one job with as many workers as there are.

        Raises:
            KeyboardInterrupt: if it was stopped by SIGINT or SIGTERM, after the job has ended in
                its own time; a second signal does not wait for that.
        """
        ...

    def get(self, ref: object) -> Any:
        """Return the object that a `Done.ref` refers to."""
        ...


def raise_failures(failures: Sequence[DfshieldError]) -> None:
    """Raise the first of the errors that units ended with, saying how many more there are."""
    if len(failures) == 1:
        raise failures[0]
    if failures:
        raise DfshieldError(f"{failures[0]} (and {len(failures) - 1} more like it)")
