"""Metrics of a run: TensorBoard's files, and trackers that fail."""

import json
import signal
import threading
import time

import numpy as np
import pytest
from event_files import event_files, records, scalars
from tiny_run import (
    call,
    ended,
    events,
    run_of,
    stamps,
    start,
    succeed,
    wait_until,
    write_config,
)

from dfshield.config import load_config
from dfshield.runs import Run, SilentObserver
from dfshield.runs.watching import metrics, tracking
from dfshield.runs.watching.metrics import EventMetrics

RATES = ("synthesis/images_per_second", "train/updates_per_second")
SYNTHESIS = ("loss", "loss_class", "loss_feature", "loss_tv")
TRAINING = ("loss", "loss_clean", "loss_robust", "loss_smooth", "agreement_rate")


def single(value):
    return float(np.float32(value))


def test_scalars_are_those_of_the_events_and_of_the_history(finished):
    run = finished / "runs" / "tiny"
    (file,) = event_files(run)
    found = scalars(file)
    assert all(rate > 0 for name in RATES for _, rate in found.pop(name))

    expected = {}
    made = np.cumsum([part["images"] for part in events(run, "part_committed")]).tolist()
    assert made[-1] == 100
    for name in SYNTHESIS:
        values = [single(part[name]) for part in events(run, "part_committed")]
        expected[f"synthesis/{name}"] = list(zip(made, values, strict=True))
    history = json.loads((run / "student" / "history.json").read_text())
    updates = [entry for entry in history if "holdout" not in entry]
    for name in TRAINING:
        expected[f"train/{name}"] = [(n, single(u[name])) for n, u in enumerate(updates, start=1)]
    epochs = [entry["holdout"] for entry in history if "holdout" in entry]
    for name in ("agreement_clean", "agreement_pgd", "collapsed"):
        expected[f"holdout/{name}"] = [(n, single(e[name])) for n, e in enumerate(epochs, start=1)]
    for result in events(run, "evaluated"):
        name = f"evaluation/{result['model']}/{result['attack']}"
        expected[name] = [(0, single(result["accuracy"]))]
    assert "evaluation/student/PGD-3" in expected
    assert found == expected
    assert abs(records(file)[-1].wall_time - time.time()) < 3600


def test_the_losses_of_a_part_are_the_means_of_its_columns(finished):
    from dfshield.storage import Folder, read_manifest, read_part

    run = finished / "runs" / "tiny"
    folder = Folder.at(run / "synthetic")
    manifest = read_manifest(folder)
    for part, told in zip(manifest.parts, events(run, "part_committed"), strict=True):
        assert told["path"] == part.path
        columns = read_part(folder, manifest, part).columns
        for term in ("class", "feature", "tv"):
            assert told[f"loss_{term}"] == columns[f"loss_{term}"].mean(dtype=np.float64)
        assert told["loss"] == columns["loss_total"].mean(dtype=np.float64)


def test_a_run_with_nothing_to_do_and_one_without_trackers_leave_no_file(tiny):
    config = tiny()
    before = event_files(run_of(config))
    succeed("run", config)
    assert event_files(run_of(config)) == before
    silent = tiny(keep=("teacher",), name="silent", trackers=[])
    succeed("synthesize", silent)
    assert not (run_of(silent) / "tensorboard").exists()
    assert events(run_of(silent), "part_committed")


@pytest.mark.drill
@pytest.mark.slow
def test_a_training_killed_and_resumed_adds_a_file_with_the_same_values(tiny):
    config = tiny(
        keep=("teacher", "synthetic"),
        training__epochs=3,
        training__inner={"num_steps": 100},
        training__checkpoint_every=1000,
    )
    run = run_of(config)
    process = start("train", config)
    # The file can be read while the run works.
    wait_until(lambda: [f for f in event_files(run) if f.stat().st_size > 200], process)
    process.kill()
    assert ended(process).code == -signal.SIGKILL
    (killed,) = event_files(run)
    old, before = scalars(killed)["train/loss"], killed.read_bytes()

    succeed("train", config)
    assert killed.read_bytes() == before
    (resumed,) = {*event_files(run)} - {killed}
    new = scalars(resumed)["train/loss"]
    assert [step for step, _ in new] == list(range(1, 7))
    assert 0 < len(old) < len(new)
    assert old == new[: len(old)]


def test_several_seeds_and_growing_sets_are_told_apart(monkeypatch):
    clock = iter([0.0, 100.0, 110.0, 500.0])
    monkeypatch.setattr(metrics.time, "monotonic", lambda: next(clock, 0.0))
    losses = dict.fromkeys(SYNTHESIS, 1.0)
    several = EventMetrics((3, 4))  # takes two times at 0 and 100 s
    assert several.of("synthesis_started", {"seed": 3, "images": 400, "total": 800}) is None
    part = {"seed": 3, "images": 195, **losses}
    point = several.of("part_committed", part)
    assert (point.group, point.step) == ("seed-3/synthesis", 595)
    assert point.metrics["images_per_second"] == pytest.approx(195 / (500 - 110))
    assert point.named()["seed-3/synthesis/loss_tv"] == 1.0
    epoch = {"epoch": 0, "agreement_clean": 0.5, "agreement_pgd": 0.25, "collapsed": True}
    point = EventMetrics((3,)).of("epoch", {"seed": 3, **epoch})
    assert (point.group, point.step) == ("holdout", 1)
    assert point.metrics["collapsed"] == 1.0
    assert several.of("unit_done", {"worker": "a"}) is None


def test_rates_forget_what_is_long_ago(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(metrics.time, "monotonic", lambda: now[0])
    rates = EventMetrics((0,))
    fields = dict.fromkeys(TRAINING, 0.0) | {"seed": 0}
    told = []
    for step in range(1, 21):  # one a minute, then one a second
        now[0] += 60.0 if step <= 10 else 1.0
        told.append(rates.of("update", fields | {"step": step}).metrics["updates_per_second"])
    assert told[0] == pytest.approx(1 / 60)
    assert told[9] == pytest.approx(1 / 60)
    assert told[19] > 2 / 60


# ---------------------------------------------------------------- trackers that fail


class Broken:
    """Fails in one of its methods."""

    flush_every = 0.02

    def __init__(self, at):
        self.at = at
        self.calls = []

    def _called(self, name):
        self.calls.append(name)
        if name == self.at:
            raise RuntimeError(f"{name} at https://me:secret@host/api failed")

    def log(self, point):
        self._called("log")

    def flush(self):
        self._called("flush")

    def close(self, *, failed):
        self._called("close")


class Listener(SilentObserver):
    """Keeps what is said."""

    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


def synthesized(config, **trackers):
    """Synthesize with these trackers; return what was said of trackers."""
    observer = Listener()
    Run(load_config(config), observer=observer, trackers=trackers).run(["synthesize"])
    return [line for line in observer.lines if "trackers" in line]


def raising():
    raise RuntimeError("https://me:secret@host/api failed")


@pytest.mark.parametrize("at", ["open", "log", "flush", "close"])
def test_a_tracker_that_fails_is_named_once_and_left_out(tiny, at):
    config = tiny(keep=("teacher",))
    broken, well = Broken(at), Broken("nowhere")
    (line,) = synthesized(
        config, bad=raising if at == "open" else lambda: broken, good=lambda: well
    )
    assert line.startswith("trackers: bad is left out from here on: ")
    assert "secret" not in line
    assert "***@host" in line
    assert broken.calls.count(at) == (2 if at == "close" else at != "open")
    assert well.calls.count("log") == 3
    assert well.calls[-1] == "close"
    assert len(events(run_of(config), "synthesis_done")) == 1


def test_a_tracker_that_hangs_does_not_hold_the_run_up(tiny, monkeypatch):
    monkeypatch.setattr(tracking, "SECONDS_TO_CLOSE", 0.2)
    forever = threading.Event()
    (line,) = synthesized(tiny(keep=("teacher",)), slow=forever.wait)
    forever.set()
    assert line == "trackers: slow does not answer; it lacks the last values"


def test_a_folder_that_cannot_be_written_costs_one_line(tiny):
    config = tiny(keep=("teacher",))
    (run_of(config) / "tensorboard").write_text("a file")
    answer = succeed("synthesize", config)
    (line,) = [line for line in answer.err.splitlines() if "trackers" in line]
    assert line.startswith("trackers: tensorboard is left out from here on: ")


def test_trackers_are_no_part_of_any_identity(tiny):
    config = tiny()
    before = stamps(run_of(config) / "student")
    succeed("evaluate", config, "trackers=[]")  # another identity would be refused
    assert stamps(run_of(config) / "student") == before


def test_an_unknown_tracker_is_refused(tmp_path):
    line = call("run", write_config(tmp_path), "trackers=[tensorbord]").refusal()
    assert "trackers.0" in line
    assert "tensorboard" in line
