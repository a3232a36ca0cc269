"""Ray Train's coordinator of resources: an actor that outlives the training that started it.

Every elastic training group starts one, detached, if the cluster has none. A run that has joined a
cluster ends it if it was not there before and serves no other request.
"""

from typing import Any

import ray

from dfshield.distributed.ray_internals import num_coordinator_requests

NAME = "AutoscalingCoordinator"


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
        if num_coordinator_requests(actor) == 0:
            ray.kill(actor)
    except ray.exceptions.RayError:
        return
