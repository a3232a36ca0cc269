"""The pipeline's executor on Ray: everything that `dfshield.runs.Executor` asks for."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from dfshield.distributed.cluster.address import AUTO
from dfshield.distributed.cluster.session import Node, RaySession
from dfshield.distributed.cluster.survey import require_usable, survey
from dfshield.distributed.cluster.worker_plan import WorkerPlan, plan_workers
from dfshield.runs import (
    Abilities,
    AbilitiesJob,
    AcceleratorJob,
    Done,
    Engine,
    GroupJob,
    Job,
    Monitor,
    SilentMonitor,
    Task,
)
from dfshield.runs.doctor.gpus import why_no_cuda
from dfshield.runs.sweep import Ended, Study
from dfshield.storage import Folder

if TYPE_CHECKING:
    from dfshield.distributed.cluster.capacity import Capacity
    from dfshield.distributed.workers.messages import MessageReader
    from dfshield.distributed.workers.pool import WorkerPool

Unit = TypeVar("Unit")
Result = TypeVar("Result")


class RayExecutor:
    """Works on every GPU, or CPU slot, of a Ray cluster. A context manager.

    Ray is imported, and started or joined, when work first needs it, so that a run with nothing
    left to do is quick.

    Args:
        address: ``local`` (a Ray of our own), ``auto`` or ``host:port``.
        folder: the folder of the run, which every node has to be able to write.
        num_workers: how many workers; None takes as many as fit.
        min_workers: the fewest that a training group starts with.
        gpus_per_worker: GPUs of each worker outside the training group, whose workers take whole
            ones; see `plan_workers`.
        wait: how many seconds to wait for capacity for one worker; the work then begins, and more
            workers start as nodes join. At 0 the cluster must have capacity for all of them.
        max_retries: how often a unit, or the training group, is retried.
        say: called with lines for the user.
        planned: the workers and their engine, where the cluster has been surveyed before.

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
        self._started: _Started | None = None

    def __enter__(self) -> "RayExecutor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the workers, and end a Ray that was started here."""
        if self._started is not None:
            self._started.pool.release()
            if self._started.ends_coordinator and self._started.capacity.head.answers():
                from dfshield.distributed.cluster.coordinator import end_idle_coordinator

                end_idle_coordinator()
            self._started = None
        self._session.close()

    def engine(self) -> Engine:
        """Return the engine of the cluster's workers; which GPU they have, one of them is asked."""
        started = self._start()
        if started.engine.device == "cuda" and started.engine.accelerator is None:
            found = started.pool.run(
                AcceleratorJob(), engine=started.engine, monitor=SilentMonitor()
            )
            started = replace(started, engine=replace(started.engine, accelerator=found))
            self._started = started
        return started.engine

    def abilities(self) -> Abilities:
        """Return what of the fast path the cluster's workers can do: one of them is asked."""
        started = self._start()
        if started.abilities is None:
            found = started.pool.run(AbilitiesJob(), engine=started.engine, monitor=SilentMonitor())
            self._started = started = replace(started, abilities=found)
        assert started.abilities is not None
        return started.abilities

    def num_workers(self) -> int:
        """Return how many workers the cluster has capacity for now."""
        return max(1, self._start().capacity.num_workers())

    def map(
        self,
        task: Task[Unit, Result],
        groups: Sequence[Sequence[Unit]],
        *,
        engine: Engine,
        monitor: Monitor,
    ) -> Iterator[Done[Unit, Result]]:
        """Do the units on actors, one for each GPU or CPU slot; see `dfshield.runs.Executor`."""
        return self._start().pool.map(task, groups, engine=engine, monitor=monitor)

    def run(self, job: Job[Result], *, engine: Engine, monitor: Monitor) -> Result:
        """Do the job on one actor; see `dfshield.runs.Executor`."""
        result: Result = self._start().pool.run(job, engine=engine, monitor=monitor)
        return result

    def run_group(self, job: GroupJob, *, engine: Engine, monitor: Monitor) -> None:
        """Do the job with a Ray Train worker group; see `dfshield.runs.Executor`."""
        started = self._start()
        from dfshield.distributed.training.group import run_group

        started.pool.release()  # the group needs their GPUs
        started.capacity.head.wait()
        least = min(self._min_workers, job.max_workers)
        plan = started.capacity.group_plan(
            least=least, most=job.max_workers, without=started.pool.gpus_kept_out
        )
        self._say(f"Starting {plan.format_workers()} for the training")
        scratch = self._folder.child(".ray-train")
        try:
            run_group(
                job,
                plan=plan,
                min_workers=least,
                engine=engine,
                head=started.capacity.head,
                reader=started.reader,
                monitor=monitor,
                storage=scratch,
                max_retries=self._max_retries,
            )
        finally:
            scratch.remove()

    def run_trials(self, study: Study, *, monitor: Monitor, ended: Ended) -> None:
        """Run the trials of a sweep with Ray Tune; see `dfshield.runs.sweep.TrialRunner`."""
        started = self._start()
        from dfshield.distributed.trials.runner import run_trials

        started.pool.release()  # the trials need their GPUs
        sweep = study.config.sweep
        share = sweep.gpus_per_trial
        _, plan = self._nodes_and_plan(self._gpus_per_worker if share is None else share)
        device = started.engine.device if plan.num_gpus else "cpu"
        scratch = self._folder.child(".ray-tune")
        try:
            run_trials(
                study,
                plan=plan.whole_gpus() if sweep.workers_per_trial > 1 else plan,
                fixed=started.capacity.fixed,
                head=started.capacity.head,
                engine=replace(started.engine, device=device, threads=plan.threads),
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
        from dfshield.distributed.cluster.waiting import wait_for_capacity

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

        return wait_for_capacity(
            find,
            num_workers=self._num_workers,
            gpus_per_worker=gpus_per_worker,
            wait=wait,
            say=self._say,
        )

    def _plan_and_engine(self) -> tuple[WorkerPlan, Engine]:
        nodes, plan = self._nodes_and_plan(self._gpus_per_worker)
        if self._session.local:
            unusable = why_no_cuda() if plan.num_gpus else ""
            require_usable("on this machine", sum(node.gpus for node in nodes), unusable)
            device = "cuda" if plan.num_gpus and not unusable else "cpu"
            torch_version = str(torch.__version__)
        else:
            found = survey(nodes, self._folder, on_gpus=plan.num_gpus > 0)
            device, torch_version = found.device, found.torch
        return plan, Engine(device=device, threads=plan.threads, torch=torch_version)

    def _start(self) -> "_Started":
        if self._started is None:
            self._session.start()
            from dfshield.distributed.cluster.capacity import Capacity
            from dfshield.distributed.cluster.coordinator import coordinator
            from dfshield.distributed.cluster.head import Head
            from dfshield.distributed.workers.messages import MessageReader
            from dfshield.distributed.workers.pool import WorkerPool
            from dfshield.distributed.workers.worker_handles import PoolWorkers

            # A trial, whose workers are planned, leaves it to its sweep.
            joined = not self._session.local and self._planned is None
            ends_coordinator = joined and coordinator() is None
            plan, engine = self._planned or self._plan_and_engine()
            reader = MessageReader()
            fixed = self._num_workers is not None or self._session.local
            head = Head(self._session.gcs_address)
            capacity = Capacity(plan, self._session.nodes, fixed, head)
            workers = PoolWorkers(capacity, reader)
            self._say(f"Ray: {plan.format()}")
            self._started = _Started(
                engine=engine,
                reader=reader,
                capacity=capacity,
                pool=WorkerPool(workers, reader, max_retries=self._max_retries),
                ends_coordinator=ends_coordinator,
            )
        return self._started


@dataclass(frozen=True)
class _Started:
    """What a `RayExecutor` holds once Ray has started.

    Attributes:
        engine: of all workers.
        reader: of the workers' messages.
        capacity: of the cluster.
        pool: the workers.
        ends_coordinator: whether `close` ends Ray Train's coordinator of resources.
        abilities: of the workers; None before one has been asked.
    """

    engine: Engine
    reader: "MessageReader"
    capacity: "Capacity"
    pool: "WorkerPool"
    ends_coordinator: bool
    abilities: Abilities | None = None
