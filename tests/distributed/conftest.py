"""Fixtures: a small run, and a cluster to run it on."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "runs"))
sys.path.insert(0, str(Path(__file__).parent))

from ray_cluster import cluster, on_cluster
from ray_head import drive, home
from tiny_run import finished, small_disk, tiny

__all__ = ["cluster", "drive", "finished", "home", "on_cluster", "small_disk", "tiny"]
