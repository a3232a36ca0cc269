"""Why workers were lost, in one line, and the callback by which Ray Train reports it."""

import textwrap
from collections.abc import Mapping
from typing import Any

from ray.actor import ActorHandle
from ray.exceptions import RayTaskError
from ray.train import UserCallback, WorkerGroupError

from dfshield.distributed.ray_internals import death_of_train_worker
from dfshield.distributed.workers.message_queue import RemoteMonitor
from dfshield.errors import DfshieldError


class LostWorkersCallback(UserCallback):
    """Reports the lost workers of a training group to the driver.

    Ray Train calls it in the process of its controller.

    Args:
        queue: handle of the `MessageQueue`.
    """

    def __init__(self, queue: ActorHandle[Any]) -> None:
        self._queue = queue

    def after_exception(
        self, run_context: object, worker_exceptions: Mapping[int, Exception]
    ) -> None:
        """Send an event for each worker that did not end with an error of the job."""
        del run_context
        for rank, error in worker_exceptions.items():
            if not isinstance(error, DfshieldError):
                worker = f"rank-{rank}"
                monitor = RemoteMonitor(self._queue, worker)
                monitor.emit("worker_lost", worker=worker, unit=None, reason=reason_of(error))


def cause_of(error: BaseException) -> BaseException:
    """Return the error of the worker itself, without what Ray has wrapped it in."""
    # Ray Train wraps the death of a process in an error that says only where it was.
    error = death_of_train_worker(error) or error
    # The text of this one begins with the place and ends with the reason.
    return error.cause if isinstance(error, RayTaskError) else error


def reason_of(error: BaseException | None) -> str:
    """Return in one line why a worker was lost."""
    if error is None:
        return "Ray gives no reason"
    error = cause_of(error)
    lines = str(error).strip().splitlines()
    return textwrap.shorten(lines[0], 200, placeholder="...") if lines else type(error).__name__


def reason_of_group(error: BaseException | None) -> str:
    """Return in one line why Ray Train gave up a group."""
    if isinstance(error, WorkerGroupError):
        # Where a process died, the errors of the other workers are only consequences.
        failures = sorted(
            error.worker_failures.items(),
            key=lambda item: (not death_of_train_worker(item[1]), item[0]),
        )
        rank, failure = failures[0]
        return f"rank {rank}: {reason_of(failure)}"
    return reason_of(getattr(error, "controller_failure", error))
