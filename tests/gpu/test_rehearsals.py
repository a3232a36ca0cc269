"""The scripts for a first GPU, rehearsed on the CPU, so that their first run is not wasted."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cifar10 import FULL as JOB
from cifar10 import PIECE, pack, sized, unpack
from first_light import STAGES, Spec, in_words, run_processes, run_stage
from stage import REHEARSAL, LackingError, Stage

HERE = Path(__file__).parent


def rehearsed(script, *options, cwd):
    command = [sys.executable, HERE / script, *options, "--rehearse"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_first_light(tmp_path):
    said = rehearsed("first_light.py", cwd=tmp_path)
    assert "not as expected: none" in said
    found = json.loads((tmp_path / "first_light.json").read_text())
    assert found["not_imported"] == {}
    stages = found["stages"]
    assert list(stages) == list(STAGES)
    skipped = {name for name, done in stages.items() if done["state"] == "skipped"}
    assert skipped == {"synchronisations"}
    assert all(stages[name]["reason"] for name in skipped)
    # What was gone through before a stage found out that a CPU lacks something, too.
    told = json.dumps(stages)
    assert "failed" not in told
    for name in set(stages) - {"synchronisations", "speed"}:
        assert stages[name]["expected"], name
    assert len(stages["agreement"]["attacks"]) == 18
    assert set(stages["synchronisations"]["places"]) >= {"an inversion", "PGD, l2"}


@pytest.mark.slow
def test_the_real_job_is_done_and_gone_on_from_its_pieces(data_folder, tmp_path):
    rehearsed("cifar10.py", "first", cwd=tmp_path)
    first = json.loads((tmp_path / "first" / "cifar10.json").read_text())
    assert first["done"]
    assert (first["plan"]["images"], first["plan"]["epochs"]) == (20, 1)
    assert len(first["accuracies"]) == 2
    rehearsed("cifar10.py", "second", "--earlier", "first", cwd=tmp_path)
    second = json.loads((tmp_path / "second" / "cifar10.json").read_text())
    assert second["done"]
    assert second["accuracies"] == first["accuracies"]
    assert second["events"]["part_committed"] == first["events"]["part_committed"]  # none again


def planned(seconds, making, training):
    """A plan of all images and epochs that would take so long."""
    return {
        "seconds": seconds,
        "synthesize": {"seconds": making + 10, "seconds_to_begin": 10.0},
        "train": {"seconds": training + 5, "seconds_to_begin": 5.0},
    }


@pytest.mark.parametrize(
    ("seconds", "images", "epochs"),
    [
        (10_000, 60_000, 200),
        (15 + 5000, 60_000, 200),
        (15 + 2600, 28_000, 200),  # a whole number of steps, rounded down
        (15 + 400, 4000, 200),
        (15 + 310, 4000, 50),  # the fewest images, in so many epochs as then fit
        (0, 4000, 1),
    ],
)
def test_as_many_images_as_leave_time_for_all_epochs(seconds, images, epochs):
    found = sized(JOB, planned(seconds, making=3600.0, training=1400.0))
    assert found["images"] == images
    assert found["epochs"] == pytest.approx(epochs, abs=100 if epochs == 50 else 0)
    used = 3600 * images / 60_000 + 1400 * images * found["epochs"] / 60_000 / 200
    assert used <= max(seconds - 15, 240 + 1400 / 15 / 200)


def test_pieces_hold_the_run_but_for_images_that_are_too_many(tmp_path, monkeypatch):
    monkeypatch.setattr("cifar10.PIECE", 4096)
    monkeypatch.setattr("cifar10.MOST", 30_000)
    work, out, again = (tmp_path / name for name in ("work", "out", "again"))
    (work / "run").mkdir(parents=True)
    out.mkdir()
    for name in ("a.parquet", "b.parquet", "c.parquet", "events.jsonl"):
        (work / "run" / name).write_bytes(os.urandom(9000))
    (out / "run.tar.77").touch()  # of a call before
    pack(work, out)
    pieces = sorted(out.iterdir())
    assert max(p.stat().st_size for p in pieces) == 4096 < PIECE
    assert "run.tar.77" not in [p.name for p in pieces]
    unpack(out, again)
    names = {p.name for p in again.rglob("*") if p.is_file()}
    assert names == {"events.jsonl", "a.parquet", "b.parquet"}
    for name in names:
        assert (again / "run" / name).read_bytes() == (work / "run" / name).read_bytes()


# ---------------------------------------------------------------- stages that do not go well


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path / "stage.json", REHEARSAL, "cpu")


def die(stage):
    stage.note(figure=1)
    os.kill(os.getpid(), signal.SIGKILL)


def hang(stage):
    stage.note(figure=1)
    time.sleep(100)


def fail(stage):
    stage.note(figure=1)
    raise ValueError("no such thing")


def lack(stage):
    stage.note(figure=1)
    raise LackingError("there is no GPU")


@pytest.mark.parametrize(
    ("part", "state", "words"),
    [
        (die, "failed", "its process died (exit code -9)"),
        (hang, "failed", "ended after 1 s"),
        (fail, "failed", "ValueError (test_rehearsals.py"),
        (lack, "skipped", "there is no GPU"),
    ],
)
def test_a_stage_that_does_not_go_well_is_told_with_what_it_had_found(stage, part, state, words):
    run_processes([part, lambda stage: stage.note(second=2)], stage, 1.0)
    assert stage.figures["state"] == state
    assert words in stage.figures["reason"]
    assert stage.figures["figure"] == 1
    assert "second" not in stage.figures


def test_a_stage_that_lacks_a_module_or_time_is_skipped(stage, tmp_path):
    done = run_stage(Spec("no_such_module", ("part",), 5), stage, left=60)
    assert (done["state"], done["reason"]) == ("skipped", "no_such_module is not installed")
    late = Stage(tmp_path / "late.json", REHEARSAL, "cpu")
    done = run_stage(STAGES["machine"], late, left=4)
    assert (done["state"], done["reason"]) == ("skipped", "no time was left")
    assert "no time was left" in in_words(done)


def test_what_is_not_as_expected_is_told_and_the_stage_goes_on(stage):
    def part(stage):
        stage.expect("the sky is blue", holds=True)
        stage.expect("pigs fly", holds=False)
        stage.attempt("sum", lambda: 1 + 1)
        stage.attempt("quotient", lambda: 1 / 0)

    run_processes([part], stage, 10.0)
    assert stage.figures["sum"] == 2
    assert "ZeroDivisionError" in stage.figures["quotient"]
    expected = {"the sky is blue": True, "pigs fly": False, "quotient": False}
    assert stage.figures["expected"] == expected
    words = in_words({"state": "done", "seconds": 1.0} | stage.figures)
    assert "1 of 3 as expected; not: pigs fly, quotient" in words
