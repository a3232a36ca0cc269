"""The pipeline's executor on Ray: everything that `dfshield.runs.Executor` asks for."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from dfshield.distributed.cluster.address import AUTO
from dfshield.distributed.cluster.session import Node, RaySession
from dfshield.distributed.cluster.survey import survey
from dfshield.distributed.cluster.worker_plan import WorkerPlan, plan_workers
from dfshield.runs import Done, Engine, GroupJob, Job, Monitor, Task
from dfshield.runs.sweep import Ended, Study
from dfshield.storage import Folder

if TYPE_CHECKING:
    from dfshield.distributed.cluster.capacity import Room
    from dfshield.distributed.workers.messages import Letters
    from dfshield.distributed.workers.pool import WorkerPool

Unit = TypeVar("Unit")
Result = TypeVar("Result")


class RayExecutor:
    """Works on every GPU, or CPU slot, of a Ray cluster. A context manager.

    Ray is imported, and started or joined, when work first needs it, so that a run with nothing to
    do is quick.

    Args:
        address: ``local`` (a Ray of our own), ``auto`` or ``host:port``.
        folder: the folder of the run, which every node has to be able to write.
        num_workers: how many workers; None takes all there is room for.
        min_workers: the fewest that a training group starts with.
        gpus_per_worker: GPUs of each worker outside the training group, whose workers take whole
            ones; see `plan_workers`.
        wait: how many seconds to wait for the cluster to have room for one worker; then it begins
            with those it has, and goes on with more as they come. At 0 it must have room for all.
        max_retries: how often a unit, or the training group, is begun again.
        say: takes a line for the user.
        planned: the workers and their engine, where the cluster has been looked at before.

    Raises:
        InputError: (as soon as work begins) if the cluster cannot be used; see `RaySession`.
    """

    def __init__(
        self,
        address: str,
        *,
        folder: Folder,
        num_workers: int | None = None,
        min_workers: int = 1,
        gpus_per_worker: float | None = None,
        wait: float = 0.0,
        max_retries: int = 3,
        say: Callable[[str], None] = lambda _: None,
        planned: tuple[WorkerPlan, Engine] | None = None,
    ) -> None:
        self._session = RaySession(address, log=say)
        self._folder = folder
        self._num_workers = num_workers
        self._min_workers = min_workers
        self._gpus_per_worker = gpus_per_worker
        self._wait = wait
        self._max_retries = max_retries
        self._say = say
        self._planned = planned
        self._crew: _Crew | None = None

    def __enter__(self) -> "RayExecutor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the workers, and end a Ray that was started here."""
        if self._crew is not None:
            self._crew.pool.release()
            if self._crew.ends_coordinator and self._crew.room.head.answers():
                from dfshield.distributed.cluster.coordinator import end_idle_coordinator

                end_idle_coordinator()
            self._crew = None
        self._session.close()

    def engine(self) -> Engine:
        """Return the engine of the cluster's workers."""
        return self._started().engine

    def map(
        self,
        task: Task[Unit, Result],
        groups: Sequence[Sequence[Unit]],
        *,
        engine: Engine,
        monitor: Monitor,
    ) -> Iterator[Done[Unit, Result]]:
        """Hand the units to actors, one a GPU or CPU slot; see `dfshield.runs.Executor`."""
        return self._started().pool.map(task, groups, engine=engine, monitor=monitor)

    def run(self, job: Job[Result], *, engine: Engine, monitor: Monitor) -> Result:
        """Do the job on one actor; see `dfshield.runs.Executor`."""
        result: Result = self._started().pool.run(job, engine=engine, monitor=monitor)
        return result

    def run_group(self, job: GroupJob, *, engine: Engine, monitor: Monitor) -> None:
        """Do the job with a Ray Train worker group; see `dfshield.runs.Executor`."""
        crew = self._started()
        from dfshield.distributed.training.group import run_group

        crew.pool.release()  # the group needs their GPUs
        crew.room.head.wait()
        least = min(self._min_workers, job.max_workers)
        plan = crew.room.group_plan(least=least, most=job.max_workers)
        self._say(f"Starting {plan.workers_told()} for the training")
        scratch = self._folder.child(".ray-train")
        try:
            run_group(
                job,
                plan=plan,
                min_workers=least,
                engine=engine,
                head=crew.room.head,
                letters=crew.letters,
                monitor=monitor,
                storage=scratch,
                max_retries=self._max_retries,
            )
        finally:
            scratch.remove()

    def run_trials(self, study: Study, *, monitor: Monitor, ended: Ended) -> None:
        """Run the trials of a sweep with Ray Tune; see `dfshield.runs.sweep.TrialRunner`."""
        crew = self._started()
        from dfshield.distributed.trials.runner import run_trials

        crew.pool.release()  # the trials need their GPUs
        sweep = study.config.sweep
        share = sweep.gpus_per_trial
        _, plan = self._nodes_and_plan(self._gpus_per_worker if share is None else share)
        device = crew.engine.device if plan.num_gpus else "cpu"
        scratch = self._folder.child(".ray-tune")
        try:
            run_trials(
                study,
                plan=plan.whole_gpus() if sweep.workers_per_trial > 1 else plan,
                fixed=crew.room.fixed,
                head=crew.room.head,
                engine=replace(crew.engine, device=device, threads=plan.threads),
                monitor=monitor,
                storage=scratch,
                make_executor=partial(RayExecutor, AUTO, max_retries=self._max_retries),
                max_retries=self._max_retries,
                ended=ended,
            )
        finally:
            scratch.remove()

    def get(self, ref: object) -> Any:
        """Return the object that a `Done.ref` refers to; see `dfshield.runs.Executor`."""
        from dfshield.distributed.workers.worker import get

        return get(ref)

    def _nodes_and_plan(self, gpus_per_worker: float | None) -> tuple[tuple[Node, ...], WorkerPlan]:
        from dfshield.distributed.cluster.waiting import when_there_is_room

        wait = 0.0 if self._session.local else self._wait

        def find() -> tuple[tuple[Node, ...], WorkerPlan]:
            nodes = self._session.nodes()
            plan = plan_workers(
                nodes,
                num_workers=self._num_workers,
                min_workers=self._min_workers,
                gpus_per_worker=gpus_per_worker,
                growing=wait > 0,
            )
            return nodes, plan

        return when_there_is_room(
            find,
            num_workers=self._num_workers,
            gpus_per_worker=gpus_per_worker,
            wait=wait,
            say=self._say,
        )

    def _plan_and_engine(self) -> tuple[WorkerPlan, Engine]:
        nodes, plan = self._nodes_and_plan(self._gpus_per_worker)
        if self._session.local:
            device = "cuda" if plan.num_gpus and torch.cuda.is_available() else "cpu"
            torch_version = str(torch.__version__)
        else:
            found = survey(nodes, self._folder, on_gpus=plan.num_gpus > 0)
            device, torch_version = found.device, found.torch
        return plan, Engine(device=device, threads=plan.threads, torch=torch_version)

    def _started(self) -> "_Crew":
        if self._crew is None:
            self._session.start()
            from dfshield.distributed.cluster.capacity import Room
            from dfshield.distributed.cluster.coordinator import coordinator
            from dfshield.distributed.cluster.head import Head
            from dfshield.distributed.workers.messages import Letters
            from dfshield.distributed.workers.pool import WorkerPool
            from dfshield.distributed.workers.pool_member import Members

            # A trial, whose workers are planned, leaves it to its sweep.
            joined = not self._session.local and self._planned is None
            ends_coordinator = joined and coordinator() is None
            plan, engine = self._planned or self._plan_and_engine()
            letters = Letters()
            fixed = self._num_workers is not None or self._session.local
            room = Room(plan, self._session.nodes, fixed, Head(self._session.gcs_address))
            self._say(f"Ray: {plan.told()}")
            self._crew = _Crew(
                engine=engine,
                letters=letters,
                room=room,
                pool=WorkerPool(Members(room, letters), letters, max_retries=self._max_retries),
                ends_coordinator=ends_coordinator,
            )
        return self._crew


@dataclass(frozen=True)
class _Crew:
    """What is known and at work once Ray has started."""

    engine: Engine
    letters: "Letters"
    room: "Room"
    pool: "WorkerPool"
    ends_coordinator: bool
