"""A home for a Ray that sees no other one."""

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "distributed"))
sys.path.insert(0, str(Path(__file__).parents[1] / "runs"))
sys.path.insert(0, str(Path(__file__).parent))

from launch_templates import ALONE
from ray_head import new_home


@pytest.fixture
def home():
    """The environment of a user with a home and a Ray folder of their own."""
    if subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("processes and a network of their own are not permitted here")
    with new_home() as env:
        yield env
