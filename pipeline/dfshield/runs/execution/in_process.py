"""The executor of one process, without Ray."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from dfshield.engine.numerics import accelerator_of
from dfshield.errors import DfshieldError, InputError
from dfshield.runs.execution.engine import Engine
from dfshield.runs.execution.engine_choice import Abilities, abilities_here
from dfshield.runs.execution.gpu_memory import full_gpu_told
from dfshield.runs.execution.interrupt import deferred_interrupt
from dfshield.runs.execution.protocol import (
    Done,
    GroupJob,
    GroupWorker,
    Job,
    Result,
    Task,
    Unit,
    Worker,
    raise_failures,
)
from dfshield.runs.execution.reproducibility import Reproducibility
from dfshield.runs.watching.events import Monitor
from dfshield.training import SingleWorker


class InProcessExecutor:
    """Does everything in this process, one unit after the other, on one device, without Ray."""

    def engine(self) -> Engine:
        """Return this process's engine: the GPU if there is one, all cores otherwise."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return Engine(
            device=device,
            threads=torch.get_num_threads(),
            torch=torch.__version__,
            accelerator=accelerator_of(torch.device(device)),
        )

    def num_workers(self) -> int:
        """Return that this process is the only one."""
        return 1

    def abilities(self) -> Abilities:
        """Return what this machine can do."""
        return abilities_here()

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
        objects: list[object] = []
        failures: list[DfshieldError] = []
        reproducibility = Reproducibility(engine, monitor, Done.worker)
        with full_gpu_told(), reproducibility.watched():
            work = task.prepare(_worker(engine, monitor, objects.append))
        for unit in units:
            objects.clear()
            names = {"worker": Done.worker, "unit": task.label(unit)}
            monitor.emit("unit_started", **names)
            try:
                with full_gpu_told(), reproducibility.watched():
                    result = work(unit)
            except InputError:
                raise
            except DfshieldError as error:
                failures.append(error)
                monitor.emit("unit_failed", **names, reason=str(error))
                continue
            monitor.emit("unit_done", **names)
            yield Done(unit, result, objects.pop() if objects else None)
        raise_failures(failures)

    def run(self, job: Job[Result], *, engine: Engine, monitor: Monitor) -> Result:
        """Do the job here; see `Executor`."""
        with full_gpu_told(), Reproducibility(engine, monitor, Done.worker).watched():
            return job.run(_worker(engine, monitor, lambda _: None))

    def run_group(self, job: GroupJob, *, engine: Engine, monitor: Monitor) -> None:
        """Do the job here, as a group of one; see `Executor`."""
        engine.bind()
        engine.require_accelerator()
        watched = Reproducibility(engine, monitor, Done.worker).watched()
        with deferred_interrupt() as stop, full_gpu_told(), watched:
            job.run(
                GroupWorker(
                    device=torch.device(engine.device),
                    monitor=monitor,
                    group=SingleWorker(),
                    get=self.get,
                    report=lambda _: None,
                    stop_requested=lambda: stop.requested,
                )
            )
        if stop.requested:
            raise KeyboardInterrupt

    def get(self, ref: object) -> Any:
        """Return the object itself: nothing leaves this process."""
        return ref


def _worker(engine: Engine, monitor: Monitor, put: Callable[[object], None]) -> Worker:
    engine.bind()
    engine.require_accelerator()
    return Worker(device=torch.device(engine.device), monitor=monitor, put=put)
