"""Fixtures of a small run, and a store to keep one on."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "storage"))

from quick_pictures import always_quick, quick_pictures
from s3_server import s3
from tiny_run import finished, fresh, run, small_disk, tiny

__all__ = ["always_quick", "finished", "fresh", "quick_pictures", "run", "s3", "small_disk", "tiny"]
