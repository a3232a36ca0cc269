"""Why workers were lost: what is told of it, by whom, and in which words."""

import textwrap
from collections.abc import Mapping
from typing import Any

from ray.actor import ActorHandle
from ray.exceptions import RayTaskError
from ray.train import UserCallback, WorkerGroupError

from dfshield.distributed.ray_internals import death_of_train_worker
from dfshield.distributed.workers.message_queue import RemoteMonitor
from dfshield.errors import DfshieldError


class GroupLosses(UserCallback):
    """Tells the driver which workers of a training group were lost.

    Ray Train calls it in a process of its own, beside the driver.
    """

    def __init__(self, mailbox: ActorHandle[Any]) -> None:
        self._mailbox = mailbox

    def after_exception(
        self, run_context: object, worker_exceptions: Mapping[int, Exception]
    ) -> None:
        """Write a letter for each worker that did not end with an error of the job."""
        del run_context  # tells nothing of the workers
        for rank, error in worker_exceptions.items():
            if not isinstance(error, DfshieldError):
                worker = f"rank-{rank}"
                monitor = RemoteMonitor(self._mailbox, worker)
                monitor.emit("worker_lost", worker=worker, unit=None, reason=reason_of(error))


def reason_of(error: BaseException | None) -> str:
    """Return in one line why a worker was lost."""
    if error is None:
        return "for a reason that Ray does not tell"
    # Ray Train wraps the death of a process in an error that says only where it was.
    error = death_of_train_worker(error) or error
    if isinstance(error, RayTaskError):  # says first where, and what only at the end
        error = error.cause
    lines = str(error).strip().splitlines()
    return textwrap.shorten(lines[0], 200, placeholder="...") if lines else type(error).__name__


def reason_of_group(error: BaseException | None) -> str:
    """Return in one line why Ray Train gave up a group."""
    if isinstance(error, WorkerGroupError):
        # Where a process died, the errors of the others are no more than its echo.
        failures = sorted(
            error.worker_failures.items(),
            key=lambda item: (not death_of_train_worker(item[1]), item[0]),
        )
        rank, failure = failures[0]
        return f"rank {rank}: {reason_of(failure)}"
    return reason_of(getattr(error, "controller_failure", error))
