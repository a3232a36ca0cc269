"""How many workers a cluster has capacity for while it changes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from dfshield.distributed.cluster.head import Head
from dfshield.distributed.cluster.session import Node
from dfshield.distributed.cluster.worker_plan import WorkerPlan
from dfshield.distributed.ray_internals import draining_nodes


@dataclass(frozen=True)
class Capacity:
    """The capacity of a cluster whose nodes come and go.

    Attributes:
        plan: what a worker takes, and how many there are at the start.
        nodes: returns the nodes that are alive.
        fixed: whether the user asked for the plan's number of workers, so that it does not grow.
        head: the cluster's.
    """

    plan: WorkerPlan
    nodes: Callable[[], Sequence[Node]]
    fixed: bool
    head: Head

    def num_workers(self) -> int:
        """Return how many workers there should be now."""
        return self.plan.num_workers if self.fixed else self.available()

    def available(self) -> int:
        """Return how many workers fit on the nodes that are not about to be taken away."""
        draining = draining_nodes()
        return self.plan.capacity_of([node for node in self.nodes() if node.id not in draining])

    def group_plan(self, *, least: int, most: int, without: int = 0) -> WorkerPlan:
        """Return the plan of a training group on whole GPUs.

        Args:
            least: the fewest workers.
            most: the most.
            without: how many GPUs are not for it.
        """
        whole = replace(self.plan, num_workers=self.num_workers()).whole_gpus()
        return replace(whole, num_workers=min(max(whole.num_workers - without, least), most))
