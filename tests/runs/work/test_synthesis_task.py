"""The task of making parts, without the stage around it."""

from dataclasses import replace

import pytest
import torch
from tiny_run import run_of, stamps

from dfshield.config import load_config
from dfshield.runs import Engine, InProcessExecutor, SilentMonitor, Worker
from dfshield.runs.work.synthesis import SynthesisTask
from dfshield.storage import Folder, read_manifest, write_manifest


class Counting(SilentMonitor):
    """Adds up the progress."""

    amount = 0.0

    def advance(self, amount):
        self.amount += amount


@pytest.fixture
def work(tiny):
    """A run with parts of two batches of five iterations: its folder, a part, how to make it."""
    path = tiny(keep=("teacher", "synthetic"))
    config, run = load_config(str(path), ()), run_of(path)
    # The iterations of a canary would be counted with those of the part.
    manifest = read_manifest(Folder.at(run / "synthetic")).model_copy(update={"canary": None})
    write_manifest(Folder.at(run / "synthetic"), manifest)
    task = SynthesisTask(
        teacher=str(run / "teacher"),
        data=str(run / "synthetic"),
        synthesis=config.synthesis,
        sink="parquet",
    )
    return run / "synthetic", manifest, task


def test_a_part_that_a_lost_worker_had_committed_is_not_made_again(work):
    data, manifest, task = work
    part = manifest.parts[0]
    file, executor = data / part.path, InProcessExecutor()

    def made():
        monitor = Counting()
        engine = Engine.from_json(manifest.engine)
        (done,) = executor.map(task, [[part]], engine=engine, monitor=monitor)
        return done.result.commit.checksum, monitor.amount

    before, expected = stamps(data), file.read_bytes()
    checksum, images = made()
    assert images == 0
    assert stamps(data) == before
    file.write_bytes(expected[:-10])
    assert made() == (checksum, pytest.approx(part.num_images))
    assert file.read_bytes() == expected


class Killed(BaseException):
    """In the place of a signal that nothing can catch."""


class Deadly(Counting):
    """Ends the work after so many calls, none of which a killed process survives."""

    def __init__(self, after):
        self.after = after

    def advance(self, amount):
        super().advance(amount)
        self.after -= amount > 0
        if not self.after:
            raise Killed


def made(work, monitor, *, every, preempted=lambda: False):
    _, manifest, task = work
    synthesis = task.synthesis.model_copy(update={"checkpoint_every": every})
    Engine.from_json(manifest.engine).bind()
    worker = Worker(torch.device("cpu"), monitor, put=lambda _: None, preempted=preempted)
    return replace(task, synthesis=synthesis).prepare(worker)(manifest.parts[0])


@pytest.fixture
def steps(monkeypatch):
    """Counts the optimisation steps."""
    counted, step = [], torch.optim.Adam.step

    def counting(self, *args):
        counted.append(1)
        return step(self, *args)

    monkeypatch.setattr(torch.optim.Adam, "step", counting)
    return counted


@pytest.mark.parametrize("every", [1, 3, 5])
@pytest.mark.parametrize("killed_in", [2, 5, 6, 9])
def test_a_part_goes_on_inside_and_equals_one_never_interrupted(work, steps, every, killed_in):
    data, manifest, _ = work
    file = data / manifest.parts[0].path
    expected = file.read_bytes()
    file.unlink()
    with pytest.raises(Killed):
        made(work, Deadly(killed_in), every=every)
    kept = (killed_in - 1) // every * every  # the last iteration had not been kept yet
    steps.clear()
    monitor = Counting()
    made(work, monitor, every=every)
    assert len(steps) == 10 - kept
    assert file.read_bytes() == expected
    assert monitor.amount == pytest.approx(manifest.parts[0].num_images)
    assert not list((data / "unfinished").iterdir())


def test_a_hurry_keeps_the_state_at_once_and_once(work, steps):
    data, manifest, _ = work
    (data / manifest.parts[0].path).unlink()
    monitor = Deadly(9)
    with pytest.raises(Killed):
        made(work, monitor, every=None, preempted=lambda: monitor.after < 3)
    steps.clear()
    made(work, Counting(), every=None)
    assert len(steps) == 10 - 7


@pytest.mark.parametrize("damage", ["cut", "identity", "engine", "other part"])
def test_a_checkpoint_that_does_not_fit_is_passed_over(work, steps, damage):
    data, manifest, task = work
    part = manifest.parts[0]
    file = data / part.path
    expected = file.read_bytes()
    file.unlink()
    with pytest.raises(Killed):
        made(work, Deadly(8), every=1)
    (checkpoint,) = (data / "unfinished").iterdir()
    if damage == "cut":
        checkpoint.write_bytes(checkpoint.read_bytes()[:-10])
    elif damage == "other part":
        (data / manifest.parts[1].path).unlink()
        other = checkpoint.with_name(checkpoint.name.replace("0000.pt", "0001.pt"))
        checkpoint.rename(other)
        part = manifest.parts[1]
        manifest = manifest.model_copy(update={"parts": (part,)})
    else:
        changed = {**getattr(manifest, damage), "torch" if damage == "engine" else "x": "other"}
        write_manifest(Folder.at(data), manifest.model_copy(update={damage: changed}))
    steps.clear()
    made((data, manifest, task), Counting(), every=None)
    assert len(steps) == 10
    if damage == "cut":
        assert file.read_bytes() == expected
