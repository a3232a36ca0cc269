"""The benchmarks still fit the code that they measure; what they measure is not looked at."""

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parent / "benchmarks"


def test_every_benchmark_can_be_imported():
    files = sorted(BENCHMARKS.glob("*.py"))
    assert len(files) > 10
    script = (
        "import runpy, sys\n"
        "sys.path.insert(0, '.')\n"
        "for file in sys.argv[1:]:\n"
        "    runpy.run_path(file, run_name='imported')\n"
    )
    command = [sys.executable, "-c", script, *files]
    done = subprocess.run(command, cwd=BENCHMARKS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_driver_at_scale_is_measured_row_by_row():
    command = [sys.executable, BENCHMARKS / "driver_scale.py", "--units", "640", "--workers", "4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1].strip() for line in done.stdout.splitlines() if "µs" in line]
    assert rows[0] == "plan"
    assert rows[-1] == "status"
