"""How many workers a cluster has room for while it changes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from dfshield.distributed.cluster.head import Head
from dfshield.distributed.cluster.session import Node
from dfshield.distributed.cluster.worker_plan import WorkerPlan
from dfshield.distributed.ray_internals import draining_nodes


@dataclass(frozen=True)
class Room:
    """Looks at a cluster whose nodes come and go.

    Attributes:
        plan: what a worker takes, and how many there are at the start.
        nodes: returns the nodes that are alive.
        fixed: whether the plan's number of workers was asked for, and does not grow.
        head: the cluster's.
    """

    plan: WorkerPlan
    nodes: Callable[[], Sequence[Node]]
    fixed: bool
    head: Head

    def num_workers(self) -> int:
        """Return how many workers there are to be."""
        return self.plan.num_workers if self.fixed else self.now()

    def now(self) -> int:
        """Return how many workers the cluster has room for, on nodes that will stay."""
        draining = draining_nodes()
        return self.plan.room_on([node for node in self.nodes() if node.id not in draining])

    def group_plan(self, *, least: int, most: int) -> WorkerPlan:
        """Return the plan of a training group on whole GPUs, between two sizes."""
        there = replace(self.plan, num_workers=self.num_workers()).whole_gpus()
        return replace(there, num_workers=min(max(there.num_workers, least), most))
