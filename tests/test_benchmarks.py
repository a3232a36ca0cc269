"""The benchmarks still fit the code that they measure; what they measure is not looked at."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_operations_of_an_adversarial_step_are_those_of_its_passes():
    script = (
        "import torch\n"
        "from adversarial_step import trainer_of\n"
        "from measuring import classifier, operations\n"
        "model, images = classifier('grey-resnet20'), torch.rand(4, 1, 28, 28)\n"
        "forward = operations(lambda: model(images))\n"
        "first = operations(lambda: next(m for m in model.modules() if isinstance(\n"
        "    m, torch.nn.Conv2d))(images))\n"
        "step = operations(trainer_of(model, images, size=4).step)\n"
        "print(step / forward, 27 - 2 * first / forward)\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=BENCHMARKS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # Ten gradients of PGD, of two passes each; one pass that the attack begins with; and two images
    # of three passes, there and back to the weights, but not to the image.
    counted, expected = map(float, done.stdout.split())
    assert counted == pytest.approx(expected, rel=1e-9)


def test_the_driver_at_scale_is_measured_row_by_row():
    command = [sys.executable, BENCHMARKS / "driver_scale.py", "--units", "640", "--workers", "4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1].strip() for line in done.stdout.splitlines() if "µs" in line]
    assert rows[0] == "plan"
    assert rows[-1] == "status"


@pytest.mark.drill
def test_the_objectives_are_compared_by_the_tables_of_the_paper_and_not_twice(tmp_path):
    figures = tmp_path / "figures.json"
    command = [sys.executable, BENCHMARKS / "training_objectives.py", "--small", "--out", tmp_path]
    for _ in range(2):
        done = subprocess.run(
            [*command, "--json", figures], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    rows = [line.split("│")[1].strip() for line in done.stdout.splitlines() if "│" in line]
    assert rows[:6] == ["STD", "TRADES", "MART", "ARD", "RSLAD", "L_DFShield"]
    assert rows[6:] == ["fixed coefficients, TRADES", "+ L_DFShield", "+ DSS", "+ GradRefine"]
    assert len(json.loads(figures.read_text())) == 9
    assert all(len(seeds["PGD-20"]) == 2 for seeds in json.loads(figures.read_text()).values())
    events = (tmp_path / "digits/sweeps/objectives/events.jsonl").read_text().splitlines()
    assert sum(json.loads(event)["event"] == "trial_ended" for event in events) == 18


@pytest.mark.drill
def test_the_defences_are_compared_as_in_table_3_and_what_is_done_is_kept(tmp_path):
    command = [sys.executable, BENCHMARKS / "defences.py", "--small", "--seeds", "0", "--out"]
    said = []
    for _ in range(2):
        done = subprocess.run([*command, tmp_path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert said[0] == said[1]
    rows = [line.split("|")[1].strip() for line in said[0].splitlines()]
    assert rows[2:] == ["teacher", "teacher, tte", "teacher, dad", "teacher, diffpure", "student"]
    events = (tmp_path / "defences-0/events.jsonl").read_text().splitlines()
    assert sum(json.loads(event)["event"] == "training_done" for event in events) == 1
