"""Uses of what is private in Ray; no other module has any.

Every function says why Ray's public interface is not enough, and what is lost under a release of
Ray that has changed what it uses: it then does without. Under such a release
``tests/distributed/test_ray_internals.py`` fails.

Ray is imported when a function is called: this module is also loaded where Ray is not installed.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from typing import Any

# The errors by which a release of Ray shows that it no longer has something.
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
    with ExitStack() as stack:
        with suppress(*_CHANGED):
            constants = import_module("ray._private.ray_constants")
            stack.enter_context(_replaced(constants, "RAY_DISABLE_FAILURE_SIGNAL_HANDLER", True))
            utils = import_module("ray._private.utils")
            stack.enter_context(_replaced(utils, "set_sigterm_handler", lambda _: None))
        yield


@contextmanager
def _replaced(module: object, name: str, value: object) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


def has_node() -> bool:
    """Return whether this process has a node of Ray, also while it connects or disconnects.

    ``ray.is_initialized`` is false while a process connects, when an exception would abort it.

    Lost without it: Ctrl-C waits until Ray has started.
    """
    try:
        worker: Any = import_module("ray._private.worker")
        return worker._global_node is not None
    except _CHANGED:
        return True


def draining_nodes() -> frozenset[str]:
    """Return the ids of the nodes that Ray is draining, for example before a preemption.

    Ray's public state API asks the dashboard, which a cluster need not have, and
    ``ray.train.get_preemption_info`` answers in the workers of a training group only.

    Lost without it: the notice of a preemption; the workers of the node are lost without one.
    """
    try:
        state: Any = import_module("ray._private.state").state
        return frozenset(state.get_draining_nodes())
    except _CHANGED:
        return frozenset()


def kill_train_controllers(own_actor: Any) -> None:
    """Kill the controllers of Ray Train that this process has started.

    Ray Train gives nobody a handle of its controller, and ends it only for a SIGINT that reaches
    the main thread inside ``fit``. The state API, which lists all actors, needs the dashboard.

    Lost without it: a group that is to end at once ends with its driver only.

    Args:
        own_actor: handle of any actor that this process has started. Other processes of the same
            job, such as the trials of a sweep, keep their controllers.
    """
    try:
        worker: Any = import_module("ray._private.worker").global_worker
        known = import_module("ray._private.state").actors(job_id=worker.current_job_id)
        name = import_module("ray.train.v2._internal.execution.controller").TrainController.__name__
        own = known[own_actor._actor_id.hex()]["OwnerAddress"]
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
    """Return why the process of a training worker died; None for any other error.

    Ray Train wraps the death of a process in an error of a class that it does not export, whose
    text begins with the place instead of the reason.

    Lost without it: the reason, in messages about lost workers.
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

    The coordinator has no method that returns its requests.

    Lost without it: the coordinator, an idle actor, stays in a cluster that was joined.

    Args:
        coordinator: handle of the actor.

    Raises:
        RayError: if the actor does not answer within seconds.
    """
    import ray

    try:
        asked = coordinator.__ray_call__.remote(lambda self: len(self._ongoing_reqs))
        return int(ray.get(asked, timeout=_ANSWER_TIMEOUT_S))
    except _CHANGED:
        return None
