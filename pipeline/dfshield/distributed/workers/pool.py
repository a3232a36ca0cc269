"""The worker pool: actors on every GPU or CPU slot, which the tasks and jobs of a run share."""

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

from dfshield.distributed.workers.messages import MessageReader
from dfshield.distributed.workers.task_loop import TaskLoop
from dfshield.distributed.workers.work_queue import WorkQueue
from dfshield.distributed.workers.worker import JobTask
from dfshield.distributed.workers.worker_handles import PoolWorkers
from dfshield.runs import Done, Engine, Job, Monitor, Task


class WorkerPool:
    """Workers that stay from one task to the next until they are released.

    Args:
        workers: need not have been started.
        reader: of their messages.
        max_retries: how often a unit is retried.
    """

    def __init__(self, workers: PoolWorkers, reader: MessageReader, *, max_retries: int) -> None:
        self._workers = workers
        self._reader = reader
        self._max_retries = max_retries

    def map(
        self,
        task: Task[Any, Any],
        groups: Sequence[Sequence[Hashable]],
        *,
        engine: Engine,
        monitor: Monitor,
    ) -> Iterator[Done[Any, Any]]:
        """Do every unit; see `dfshield.runs.Executor.map`."""
        queue = WorkQueue(groups, max_retries=self._max_retries)
        if not queue.unfinished:
            return
        self._workers.fill(queue.unfinished)
        try:
            yield from TaskLoop(self._workers, self._reader, task, queue, engine, monitor).run()
        except BaseException:
            self.release()  # they are in the middle of a unit
            raise

    def run(self, job: Job[Any], *, engine: Engine, monitor: Monitor) -> Any:
        """Do one job on one worker; see `dfshield.runs.Executor.run`."""
        (done,) = self.map(JobTask(job), [[0]], engine=engine, monitor=monitor)
        return done.result

    @property
    def gpus_kept_out(self) -> int:
        """How many GPUs are held by workers that get no work, since they fail."""
        return len({worker.gpu for worker in self._workers.benched})

    def release(self) -> None:
        """Kill all workers, which frees their GPUs, but those of GPUs that are kept out."""
        self._workers.release()
