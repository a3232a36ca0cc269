"""Ray Train's coordinator of resources: an actor that outlives the training that started it.

Every training group starts it, detached, if the cluster has none. What has joined a cluster leaves
none behind that was not there before and that nobody else has asked for anything.
"""

from typing import Any

import ray

NAME = "AutoscalingCoordinator"
_PATIENCE_S = 5.0


def coordinator() -> Any | None:
    """Return the cluster's coordinator, None where there is none."""
    try:
        return ray.get_actor(NAME, namespace=NAME)
    except ValueError:
        return None


def end_idle_coordinator() -> None:
    """End the cluster's coordinator unless somebody's requests are under way."""
    actor = coordinator()
    if actor is None:
        return
    try:
        # Ray tells of the requests nowhere else; where it keeps them otherwise, the actor stays.
        requests = actor.__ray_call__.remote(lambda self: len(self._ongoing_reqs))
        if ray.get(requests, timeout=_PATIENCE_S) == 0:
            ray.kill(actor)
    except (ray.exceptions.RayError, AttributeError):
        return
