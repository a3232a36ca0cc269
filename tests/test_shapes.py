"""The shapes that the package's annotations promise, checked at run time in another process.

It costs each call some time, so that the other tests, and those that compile, go without.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROWS = (
    "attacks/test_attack_grid.py",
    "attacks/test_losses_and_variants.py",
    "evaluation/test_evaluate.py",
    "synthesis/test_augmentations.py",
    "synthesis/test_synthesis_losses.py",
    "synthesis/test_synthesis_draws.py",
    "training/test_deferred_batchnorm.py",
    "training/test_gradrefine.py",
    "training/test_inner_maximization.py",
    "training/test_objectives.py",
)


@pytest.mark.slow
def test_shapes_are_those_of_the_annotations():
    options = ["-q", "-n", "0", "-p", "no:cacheprovider", "-m", "not slow and not drill"]
    few = "not attack_grid or test_contract and -3-3"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-k", few, *(HERE / row for row in ROWS)],
        env={**os.environ, "DFSHIELD_CHECK_SHAPES": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "test_a_wrong_shape" not in done.stdout  # skipped rows are listed
