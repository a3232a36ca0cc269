"""How many workers a cluster has room for, and what each of them takes."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from dfshield.distributed.session import Node
from dfshield.errors import InputError

MAX_SLOTS_PER_NODE = 4
"""CPU workers a node has by default: each holds the libraries and a classifier in memory."""


@dataclass(frozen=True)
class WorkerPlan:
    """The workers of a cluster.

    Attributes:
        num_workers: how many there are.
        num_gpus: GPUs of each: 1, or 0 where there are none.
        num_cpus: CPUs that Ray reserves for each.
        threads: intra-op threads of each.
    """

    num_workers: int
    num_gpus: int
    num_cpus: int
    threads: int

    def room_on(self, nodes: Sequence[Node]) -> int:
        """Return how many such workers these nodes have room for."""
        if self.num_gpus:
            return sum(node.gpus for node in nodes)
        return sum(min(node.cpus // self.num_cpus, MAX_SLOTS_PER_NODE) for node in nodes)

    def workers_told(self) -> str:
        """Return how many workers there are, in words."""
        return "1 worker" if self.num_workers == 1 else f"{self.num_workers} workers"

    def told(self) -> str:
        """Return the plan in words."""
        if self.num_gpus:
            return f"{self.workers_told()}, one a GPU"
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.workers_told()} on CPU slots, {threads} each (Ray sees no GPU)"


def plan_workers(nodes: Sequence[Node], *, num_workers: int | None = None) -> WorkerPlan:
    """Plan one worker a GPU or, where there is no GPU at all, workers on slots of the CPUs.

    Threads are the cores of the node that has the fewest for its workers; OMP_NUM_THREADS limits
    them.

    Args:
        nodes: the nodes of the cluster.
        num_workers: how many workers; None takes what there is.

    Raises:
        InputError: if the cluster has no room for that many.
    """
    gpus = sum(node.gpus for node in nodes)
    if gpus:
        wanted = num_workers or gpus
        _require(wanted, gpus, "GPUs")
        cores = min(node.cpus // node.gpus for node in nodes if node.gpus)
        return WorkerPlan(wanted, num_gpus=1, num_cpus=0, threads=_threads(cores))
    cpus = sum(node.cpus for node in nodes)
    wanted = num_workers or sum(min(node.cpus, MAX_SLOTS_PER_NODE) for node in nodes)
    _require(wanted, cpus, "CPUs and no GPU")
    num_cpus = _cpus_each(nodes, wanted)
    return WorkerPlan(wanted, num_gpus=0, num_cpus=num_cpus, threads=_threads(num_cpus))


def _require(wanted: int, there: int, what: str) -> None:
    if wanted > there:
        raise InputError(
            f"cluster.num_workers: {wanted} wanted, but Ray has {there} {what}; "
            "leave it out to use all there are"
        )
    if not there:
        raise InputError("the Ray cluster has no CPU and no GPU to work on")


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
