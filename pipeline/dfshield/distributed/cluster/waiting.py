"""Waiting for the capacity of a cluster that starts its nodes when they are asked for."""

import math
import time
from collections.abc import Callable
from typing import TypeVar

from ray.autoscaler.sdk import request_resources

from dfshield.distributed.cluster.worker_plan import NoCapacityError, workers_per_gpu

Found = TypeVar("Found")

SECONDS_BETWEEN_TRIES = 1.0
SECONDS_BETWEEN_LINES = 30.0


def wait_for_capacity(
    find: Callable[[], Found],
    *,
    num_workers: int | None,
    gpus_per_worker: float | None,
    wait: float,
    say: Callable[[str], None],
) -> Found:
    """Ask Ray's autoscaler for nodes until ``find`` succeeds, and return its result.

    Args:
        find: looks at the cluster; called again while it raises `NoCapacityError`.
        num_workers: how many workers to ask the autoscaler for; None asks for one.
        gpus_per_worker: GPUs of each; 0 for CPU slots, None for whole GPUs.
        wait: how many seconds to wait.
        say: takes a line for the user.

    Raises:
        NoCapacityError: if there is no capacity in that time.
    """
    deadline = time.monotonic() + wait
    next_line = time.monotonic()
    asked = False
    try:
        while True:
            try:
                return find()
            except NoCapacityError as error:
                now = time.monotonic()
                if now >= deadline:
                    raise
                if not asked:
                    asked = True
                    _ask_for(num_workers or 1, gpus_per_worker)
                if now >= next_line:
                    next_line = now + SECONDS_BETWEEN_LINES
                    reason, _, _ = str(error).partition("; ")
                    say(f"Waiting for nodes, {deadline - now:.0f} s at most: {reason}")
                time.sleep(SECONDS_BETWEEN_TRIES)
    finally:
        if asked:
            request_resources(bundles=[])  # from here on the workers ask for resources themselves


def _ask_for(num_workers: int, gpus_per_worker: float | None) -> None:
    share = 1.0 if gpus_per_worker is None else gpus_per_worker
    if share:
        # A share of a GPU is asked for in whole ones: that is what the workers will fill.
        bundle, count = {"GPU": 1}, math.ceil(num_workers / workers_per_gpu(share))
    else:
        bundle, count = {"CPU": 1}, num_workers
    request_resources(bundles=[bundle] * count)
