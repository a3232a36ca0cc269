"""Who does the work: the protocol between the pipeline and whatever runs its units."""

import ctypes
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch

from dfshield.acceleration import Acceleration, Precision
from dfshield.errors import DfshieldError, InputError
from dfshield.runs.events import Monitor
from dfshield.runs.interrupt import deferred_interrupt
from dfshield.training import SingleWorker, WorkerGroup

Unit = TypeVar("Unit", bound=Hashable)
Result = TypeVar("Result")
UnitContra = TypeVar("UnitContra", bound=Hashable, contravariant=True)
ResultCo = TypeVar("ResultCo", covariant=True)

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


@dataclass(frozen=True)
class Engine:
    """How numbers are computed. Results are equal to the byte for an equal engine and hardware.

    Attributes:
        device: ``cpu`` or ``cuda``.
        threads: intra-op threads of each worker, which CPU results depend on.
        torch: version of torch.
        precision: of the forward and backward passes.
        compiled: whether the network is compiled.
        batches_per_pass: how many batches share a forward pass.
    """

    device: str
    threads: int
    torch: str
    precision: Precision = "float32"
    compiled: bool = False
    batches_per_pass: int = 1

    def to_json(self) -> dict[str, Any]:
        """Return the engine as it stands in a manifest."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Engine":
        """Return the engine that `to_json` described."""
        return cls(**value)

    @property
    def acceleration(self) -> Acceleration:
        """What of it the algorithms are told."""
        return Acceleration(self.precision, self.compiled)

    def bind(self) -> None:
        """Let this process compute as the engine says."""
        _keep_freed_memory()
        torch.set_num_threads(self.threads)
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False


@dataclass(frozen=True)
class Worker:
    """What a task learns about the process it runs in.

    Attributes:
        device: the torch device to compute on.
        monitor: who is told how it goes; progress is counted in the task's own unit.
        keep: takes what is too large to travel with a unit's result; it stays where it was made,
            and comes out as `Done.kept`.
        preempted: whether this machine is about to be taken away: keep what would be a pity to
            lose.
    """

    device: torch.device
    monitor: Monitor
    keep: Callable[[object], None]
    preempted: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class GroupWorker:
    """What a job that several workers share learns about the one it runs in.

    Attributes:
        device: the torch device to compute on.
        monitor: who is told how it goes; only that of rank 0 listens.
        group: all the workers of the job.
        fetch: turns a `Done.kept` into what was kept.
        report: takes the metrics of an epoch; every worker has to call it equally often.
        stop_requested: whether somebody asked the job to stop; may differ between workers.
        preempted: whether the machine of any worker is about to be taken away; tells rank 0.
    """

    device: torch.device
    monitor: Monitor
    group: WorkerGroup
    fetch: Callable[[object], Any]
    report: Callable[[Mapping[str, Any]], None]
    stop_requested: Callable[[], bool]
    preempted: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class Done(Generic[Unit, ResultCo]):
    """One unit that is done.

    Attributes:
        unit: which.
        result: what it returned.
        kept: what it gave to `Worker.keep`, or a reference to it; None if nothing.
        worker: the name of who did it.
    """

    unit: Unit
    result: ResultCo
    kept: object = None
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
            InputError: as soon as a unit raises one: what is wrong would be wrong for all.
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

    def fetch(self, kept: object) -> Any:
        """Turn a `Done.kept` into what was kept."""
        ...


class InProcessExecutor:
    """Does everything in this process, one unit after the other, on one device, without Ray."""

    def engine(self) -> Engine:
        """Return this process's engine: the GPU if there is one, all cores otherwise."""
        return Engine(
            device="cuda" if torch.cuda.is_available() else "cpu",
            threads=torch.get_num_threads(),
            torch=torch.__version__,
        )

    def map(
        self,
        task: Task[Unit, Result],
        groups: Sequence[Sequence[Unit]],
        *,
        engine: Engine,
        monitor: Monitor,
    ) -> Iterator[Done[Unit, Result]]:
        """Yield the units in order; see `Executor`."""
        units = [unit for group in groups for unit in group]
        if not units:
            return
        kept: list[object] = []
        failures: list[DfshieldError] = []
        work = task.prepare(_worker(engine, monitor, kept.append))
        for unit in units:
            kept.clear()
            told = {"worker": Done.worker, "unit": task.label(unit)}
            monitor.emit("unit_started", **told)
            try:
                result = work(unit)
            except InputError:
                raise
            except DfshieldError as error:
                failures.append(error)
                monitor.emit("unit_failed", **told, reason=str(error))
                continue
            monitor.emit("unit_done", **told)
            yield Done(unit, result, kept.pop() if kept else None)
        raise_failures(failures)

    def run(self, job: Job[Result], *, engine: Engine, monitor: Monitor) -> Result:
        """Do the job here; see `Executor`."""
        return job.run(_worker(engine, monitor, lambda _: None))

    def run_group(self, job: GroupJob, *, engine: Engine, monitor: Monitor) -> None:
        """Do the job here, as a group of one; see `Executor`."""
        engine.bind()
        with deferred_interrupt() as stop:
            job.run(
                GroupWorker(
                    device=torch.device(engine.device),
                    monitor=monitor,
                    group=SingleWorker(),
                    fetch=self.fetch,
                    report=lambda _: None,
                    stop_requested=lambda: stop.requested,
                )
            )
        if stop.requested:
            raise KeyboardInterrupt

    def fetch(self, kept: object) -> Any:
        """Return it as it is: nothing leaves this process."""
        return kept


def raise_failures(failures: Sequence[DfshieldError]) -> None:
    """Raise the first of the errors that units ended with, saying how many more there are."""
    if len(failures) == 1:
        raise failures[0]
    if failures:
        raise DfshieldError(f"{failures[0]} (and {len(failures) - 1} more like it)")


def _keep_freed_memory() -> None:
    """Let glibc keep the memory of freed tensors, which every iteration asks for again.

    By default it may hand tensors of some MB back to the kernel each time and fault them in anew,
    page by page; whether it does depends on what the process allocated before. Elsewhere than
    under glibc, nothing happens.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt") and hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def _worker(engine: Engine, monitor: Monitor, keep: Callable[[object], None]) -> Worker:
    engine.bind()
    return Worker(device=torch.device(engine.device), monitor=monitor, keep=keep)
