"""The study of time to robustness: its verdicts by hand, and a rehearsal that resumes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent / "benchmarks"


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import time_to_robustness

    return time_to_robustness


def students(study, seconds, *robust):
    return [study.Student(seconds, 90.0, percent) for percent in robust]


def test_no_worse_is_what_lies_within_the_interval_of_the_full_recipe(study):
    found = {
        "full": students(study, 200.0, 39.0, 40.0, 41.0),
        "within": students(study, 50.0, 36.0, 36.0),  # 40 % of 500: 35.8 to 44.4
        "below": students(study, 10.0, 35.0, 36.0),
        "above": students(study, 60.0, 60.0),
    }
    table = study.standings(found, 500)
    assert {name for name, one in table.items() if one.no_worse} == {"full", "within", "above"}
    assert table["full"].spread == pytest.approx(1.0)
    assert table["above"].spread is None
    assert study.cheapest(table) == "within"


@pytest.mark.drill
def test_a_rehearsal_measures_every_setting_and_none_twice(tmp_path):
    figures = tmp_path / "figures.json"
    command = [sys.executable, BENCHMARKS / "time_to_robustness.py", "--small", "--seeds", "1"]
    command += ["--out", tmp_path, "--json", figures, "--only", "fast"]

    def call():
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(figures.read_text())

    told = call()
    assert set(told["students"]) == {"full", "fast"}
    assert all(one["seconds"] > 0 for (one,) in told["students"].values())
    assert (tmp_path / "digits" / "curves.png").stat().st_size > 1000
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert call() == told
    assert {path: path.stat().st_mtime_ns for path in files} == files
    # What was interrupted is measured whole.
    (tmp_path / "digits" / "seconds" / "fast-0.json").unlink()
    again = call()["students"]
    assert again["full"] == told["students"]["full"]
    assert again["fast"][0]["autoattack"] == told["students"]["fast"][0]["autoattack"]
