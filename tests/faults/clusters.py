"""Ray clusters on this machine whose nodes come and go."""

import os
from collections.abc import Iterator

from ray_cluster import QUICK_DEATH, drain


class Changing:
    """A cluster of a head without GPUs, where the driver lives, and nodes that can be killed."""

    def __init__(self, nodes: int, gpus: int) -> None:
        from ray.cluster_utils import Cluster

        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 4,
                "include_dashboard": False,
                "_system_config": QUICK_DEATH,
            },
        )
        self.nodes = [self.grow(gpus, wait=False) for _ in range(nodes)]
        self.cluster.wait_for_nodes()

    @property
    def setting(self) -> str:
        """The setting that lets a command use it."""
        return f"cluster.address={self.cluster.address}"

    def grow(self, gpus: int = 1, *, wait: bool = True):
        """Add a node."""
        node = self.cluster.add_node(num_cpus=2, num_gpus=gpus)
        if wait:
            self.cluster.wait_for_nodes()
        return node

    def kill(self, node) -> None:
        """Take a node away without a word to anyone."""
        self.cluster.remove_node(node, allow_graceful=False)

    def end(self) -> None:
        """Take all nodes away, the head first."""
        for node in (self.cluster.head_node, *self.nodes):
            self.kill(node)

    def drain(self, node, seconds: int) -> None:
        """Tell Ray that a node will be preempted."""
        drain(self.cluster.address, node.node_id, seconds)


def changing(nodes: int = 2, gpus: int = 1) -> Iterator[Changing]:
    """Give a cluster until the generator is closed."""
    made = Changing(nodes, gpus)
    yield made
    made.cluster.shutdown()
