"""Fixtures of a small run."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from tiny_run import finished, small_disk, tiny

__all__ = ["finished", "small_disk", "tiny"]
