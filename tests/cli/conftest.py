"""Fixtures of a small run."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "runs"))

from tiny_run import finished, tiny

__all__ = ["finished", "tiny"]
