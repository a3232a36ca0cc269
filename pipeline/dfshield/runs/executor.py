"""Who does the work: the protocol between the pipeline and whatever runs its units."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch

Unit = TypeVar("Unit")
Result = TypeVar("Result")
UnitContra = TypeVar("UnitContra", contravariant=True)
ResultCo = TypeVar("ResultCo", covariant=True)


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
    precision: str = "float32"
    compiled: bool = False
    batches_per_pass: int = 1

    def to_json(self) -> dict[str, Any]:
        """Return the engine as it stands in a manifest."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Engine":
        """Return the engine that `to_json` described."""
        return cls(**value)


@dataclass(frozen=True)
class Worker:
    """What a task learns about the process it runs in.

    Attributes:
        device: the torch device to compute on.
        progress: called with the amount of work done since the last call, in the task's own unit.
    """

    device: torch.device
    progress: Callable[[float], None]


@runtime_checkable
class Task(Protocol[UnitContra, ResultCo]):
    """Work of independent units. Picklable; knows nothing of who executes it."""

    def prepare(self, worker: Worker) -> Callable[[UnitContra], ResultCo]:
        """Load what all units need, once per worker, and return the function that does one."""
        ...


@runtime_checkable
class Job(Protocol[ResultCo]):
    """Work that is one piece. Picklable."""

    def run(self, worker: Worker) -> ResultCo:
        """Do it."""
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
        units: Iterable[Unit],
        *,
        engine: Engine,
        progress: Callable[[float], None],
    ) -> Iterator[tuple[Unit, Result]]:
        """Do every unit under an engine and yield each with its result, in any order."""
        ...

    def run(self, job: Job[Result], *, engine: Engine, progress: Callable[[float], None]) -> Result:
        """Do one job under an engine."""
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
        units: Iterable[Unit],
        *,
        engine: Engine,
        progress: Callable[[float], None],
    ) -> Iterator[tuple[Unit, Result]]:
        """Yield the units in order; see `Executor`."""
        work = task.prepare(_worker(engine, progress))
        for unit in units:
            yield unit, work(unit)

    def run(self, job: Job[Result], *, engine: Engine, progress: Callable[[float], None]) -> Result:
        """Do the job here; see `Executor`."""
        return job.run(_worker(engine, progress))


def _worker(engine: Engine, progress: Callable[[float], None]) -> Worker:
    torch.set_num_threads(engine.threads)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    return Worker(device=torch.device(engine.device), progress=progress)
