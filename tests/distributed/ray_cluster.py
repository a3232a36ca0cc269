"""A Ray cluster of several nodes on this machine, with GPUs that are only counted."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dfshield.distributed import RayExecutor
from dfshield.storage import Folder

# Dead nodes are found in seconds.
QUICK_DEATH = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 4,
}


def drain(address: str, node: str, seconds: int) -> None:
    """Tell a cluster that one of its nodes will be preempted in so many seconds."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "drain-node"]
    reason = ["--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=wanted elsewhere"]
    left = f"--deadline-remaining-seconds={seconds}"
    subprocess.run(
        [*command, f"--address={address}", f"--node-id={node}", left, *reason], check=True
    )


@pytest.fixture(scope="session")
def cluster():
    """Two nodes with two logical GPUs each."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Where workers find contract_tasks.
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 4,
            "num_gpus": 2,
            "include_dashboard": False,
            "_system_config": QUICK_DEATH,
        },
    )
    cluster.add_node(num_cpus=4, num_gpus=2)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def on_cluster(cluster, tmp_path_factory):
    """An executor with two of its GPUs."""
    folder = Folder.at(tmp_path_factory.mktemp("on_cluster"))
    with RayExecutor(cluster.address, folder=folder, num_workers=2, max_retries=2) as executor:
        yield executor
