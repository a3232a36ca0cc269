"""How many workers a cluster has capacity for, and what each of them takes."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dfshield.distributed.cluster.session import Node
from dfshield.errors import InputError, counted

MAX_SLOTS_PER_NODE = 4
"""CPU workers a node has by default: each holds the libraries and a classifier in memory."""


class NoCapacityError(InputError):
    """A cluster lacks capacity for the workers that were asked for. It may have it later."""


@dataclass(frozen=True)
class WorkerPlan:
    """The workers of a cluster.

    Attributes:
        num_workers: how many there are.
        num_gpus: GPUs of each: 1, a share of one, or 0 for workers on slots of the CPUs.
        num_cpus: CPUs that Ray reserves for each.
        threads: intra-op threads of each.
    """

    num_workers: int
    num_gpus: float
    num_cpus: int
    threads: int

    def capacity_of(self, nodes: Sequence[Node]) -> int:
        """Return how many such workers fit on these nodes."""
        if self.num_gpus:
            return sum(node.gpus for node in nodes) * workers_per_gpu(self.num_gpus)
        return sum(min(node.cpus // self.num_cpus, MAX_SLOTS_PER_NODE) for node in nodes)

    def whole_gpus(self) -> "WorkerPlan":
        """Return the plan of a training group on these GPUs: its ranks cannot share one."""
        if not self.num_gpus:
            return self
        num_workers = math.ceil(self.num_workers / workers_per_gpu(self.num_gpus))
        return replace(self, num_workers=num_workers, num_gpus=1.0)

    def format_workers(self) -> str:
        """Return the number of workers as text."""
        return counted(self.num_workers, "worker")

    def format(self) -> str:
        """Return the plan as one line."""
        if self.num_gpus:
            per_gpu = workers_per_gpu(self.num_gpus)
            return f"{self.format_workers()}, {'one' if per_gpu == 1 else per_gpu} a GPU"
        return f"{self.format_workers()} on CPU slots, {counted(self.threads, 'thread')} each"


def workers_per_gpu(num_gpus: float) -> int:
    """Return how many workers share a GPU when each takes this much of it."""
    return math.floor(1 / num_gpus + 1e-9)


def plan_workers(
    nodes: Sequence[Node],
    *,
    num_workers: int | None = None,
    min_workers: int = 1,
    gpus_per_worker: float | None = None,
    growing: bool = False,
) -> WorkerPlan:
    """Plan workers on the GPUs or, where there is none or none is wanted, on slots of the CPUs.

    Threads are the cores of the node that has the fewest for its workers; OMP_NUM_THREADS limits
    them.

    Args:
        nodes: the nodes of the cluster.
        num_workers: how many workers; None takes as many as fit.
        min_workers: the fewest that a training group starts with.
        gpus_per_worker: GPUs of each: 1, a share of one, or 0 for slots of the CPUs; None takes
            whole GPUs if there is any, else slots.
        growing: whether capacity for one is enough to begin with, since nodes may join.

    Raises:
        NoCapacityError: if the cluster has no capacity for that many.
    """
    gpus = sum(node.gpus for node in nodes)
    share = gpus_per_worker if gpus_per_worker is not None else float(gpus > 0)
    if share:
        per_gpu = workers_per_gpu(share)
        wanted = num_workers or gpus * per_gpu
        there = _format_gpus(gpus, per_gpu)
        _require("num_workers", wanted, gpus * per_gpu, there, growing=growing)
        _require("min_workers", min_workers, gpus, there, growing=growing)
        cores = min(node.cpus // (node.gpus * per_gpu) for node in nodes if node.gpus)
        return WorkerPlan(wanted, num_gpus=share, num_cpus=0, threads=_threads(cores))
    cpus = sum(node.cpus for node in nodes)
    slots = sum(min(node.cpus, MAX_SLOTS_PER_NODE) for node in nodes)
    wanted = num_workers or max(slots, min_workers)
    there = counted(cpus, "CPU") + ("" if gpus else " and no GPU")
    _require("min_workers", min_workers, cpus, there, growing=growing)
    _require("num_workers", wanted, cpus, there, growing=growing)
    num_cpus = _cpus_each(nodes, min(wanted, cpus))
    return WorkerPlan(wanted, num_gpus=0.0, num_cpus=num_cpus, threads=_threads(num_cpus))


def _require(key: str, wanted: int, capacity: int, there: str, *, growing: bool) -> None:
    if not capacity:
        raise NoCapacityError(f"the Ray cluster has {there} to work on; {_HINT}")
    if wanted > capacity and not growing:
        raise NoCapacityError(
            f"cluster.{key}: {wanted} wanted, but Ray has {there}; leave it out to use all there "
            f"are; {_HINT}"
        )


_HINT = "on a cluster that is about to have more, cluster.wait=SECONDS waits for them"


def _format_gpus(gpus: int, per_gpu: int) -> str:
    text = counted(gpus, "GPU")
    return text if per_gpu == 1 or not gpus else f"{text} with room for {per_gpu} workers each"


def _cpus_each(nodes: Sequence[Node], wanted: int) -> int:
    """Return the most CPUs that each of so many workers can have."""
    most = max(node.cpus for node in nodes)
    return next(cpus for cpus in range(most, 0, -1) if sum(n.cpus // cpus for n in nodes) >= wanted)


def _threads(cores: int) -> int:
    try:
        limit = int(os.environ["OMP_NUM_THREADS"])
    except (KeyError, ValueError):
        limit = cores
    return max(1, min(cores, limit))
