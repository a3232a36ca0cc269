"""The compiled paths, in processes of their own: run-time type checks cannot be compiled."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "rows"),
    [
        ("synthesis", "not drill"),
        ("training", "not drill"),
        pytest.param("synthesis", "drill", marks=pytest.mark.drill),
        pytest.param("training", "drill", marks=pytest.mark.drill),
    ],
)
def test_compiled(package, rows):
    cases = Path(__file__).parent / package / "compiled_cases.py"
    options = ["-q", "-n", "0", "--noconftest", "--import-mode=prepend", "-m", rows]
    command = [sys.executable, "-m", "pytest", *options, cases]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
