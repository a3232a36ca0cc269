"""What this package uses of Ray without a promise of Ray's that it stays: all of it is here.

Every function names the reason why Ray's public interface does not do, and what is lost under a
release of Ray that has changed what it uses; it then does without. For such a release
``tests/distributed/test_ray_internals.py`` fails.

Ray is imported when a function is called: this module is also loaded where Ray is not installed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

# How it shows that Ray no longer has what is asked of it.
_CHANGED = (ImportError, AttributeError, KeyError, TypeError)
_ANSWER_TIMEOUT_S = 5.0


@contextmanager
def without_signal_handlers_of_ray() -> Iterator[None]:
    """Keep ``ray.init`` from setting handlers for SIGTERM inside the block.

    It sets one in Python, which exits, and one in C++, which prints a stack trace and aborts. Only
    the second can be switched off, by an environment variable that Ray reads as it is imported and
    that every worker would inherit.

    Lost without it: a SIGTERM while Ray starts ends the process at once, with Ray's own words.
    """
    try:
        constants: Any = import_module("ray._private.ray_constants")
        utils: Any = import_module("ray._private.utils")
        kept = constants.RAY_DISABLE_FAILURE_SIGNAL_HANDLER, utils.set_sigterm_handler
    except _CHANGED:
        yield
        return
    constants.RAY_DISABLE_FAILURE_SIGNAL_HANDLER = True
    utils.set_sigterm_handler = lambda _: None
    try:
        yield
    finally:
        constants.RAY_DISABLE_FAILURE_SIGNAL_HANDLER, utils.set_sigterm_handler = kept


def has_node() -> bool:
    """Return whether this process has a node of Ray, while it connects and disconnects included.

    ``ray.is_initialized`` is still false while a process connects, when an exception aborts it.

    Lost without it: Ctrl-C waits until Ray has started.
    """
    try:
        worker: Any = import_module("ray._private.worker")
        return worker._global_node is not None
    except _CHANGED:
        return True


def draining_nodes() -> frozenset[str]:
    """Return the ids of the nodes that Ray drains, as before a preemption.

    Ray's public state API asks the dashboard, which a cluster need not have, and
    ``ray.train.get_preemption_info`` answers in the workers of a training group only.

    Lost without it: the notice of a preemption; its workers die like others.
    """
    try:
        state: Any = import_module("ray._private.state").state
        return frozenset(state.get_draining_nodes())
    except _CHANGED:
        return frozenset()


def kill_train_controllers(sibling: Any) -> None:
    """Kill the controllers of Ray Train that the process has started which started an actor.

    Ray Train gives nobody a handle of its controller, and ends it only for a SIGINT that reaches
    the main thread inside ``fit``. The state API, which knows all actors, needs the dashboard.

    Lost without it: a group that is to end at once lives until its driver has ended.

    Args:
        sibling: handle of an actor that the process has started; other processes of this job, such
            as the trials of a sweep, keep their controllers.
    """
    try:
        worker: Any = import_module("ray._private.worker").global_worker
        known = import_module("ray._private.state").actors(job_id=worker.current_job_id)
        name = import_module("ray.train.v2._internal.execution.controller").TrainController.__name__
        own = known[sibling._actor_id.hex()]["OwnerAddress"]
        ids = [
            bytes.fromhex(actor["ActorID"])
            for actor in known.values()
            if actor["ActorClassName"] == name and actor["OwnerAddress"] == own
        ]
        for actor_id in ids:
            worker.core_worker.kill_actor(import_module("ray").ActorID(actor_id), True)
    except _CHANGED:
        return


def death_of_train_worker(error: BaseException) -> BaseException | None:
    """Return why the process of a training worker died, None if an error is not about that.

    Ray Train hands out such a death wrapped in an error of a class that it does not export, whose
    text begins with the place and not with the reason.

    Lost without it: the reason for which a worker was lost, in messages.
    """
    try:
        errors: Any = import_module("ray.train.v2._internal.exceptions")
        if isinstance(error, errors.WorkerHealthCheckFailedError):
            reason: BaseException = error.health_check_failure
            return reason
    except _CHANGED:
        pass
    return None


def num_coordinator_requests(coordinator: Any) -> int | None:
    """Return how many requests Ray Train's coordinator of resources serves; None if unknown.

    Lost without it: the coordinator, an idle actor, stays in a cluster that was joined.

    Args:
        coordinator: handle of the actor.

    Raises:
        RayError: if the actor does not answer within seconds.
    """
    import ray

    try:
        # Ray serialises the function; the coordinator has no method that tells of its requests.
        asked = coordinator.__ray_call__.remote(lambda self: len(self._ongoing_reqs))
        return int(ray.get(asked, timeout=_ANSWER_TIMEOUT_S))
    except _CHANGED:
        return None
