"""Ctrl-C and SIGTERM beside a local Ray: an end in seconds, and nothing left running."""

import os
import signal
import time

import pytest
from ray_head import processes
from tiny_run import ended, events, resuming_command, run_of, start, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SLOW = {
    "synthesis__num_images": 160,
    "synthesis__iterations": 300,
    "training__inner": {"num_steps": 60},
    "training__epochs": 12,  # many more updates than one look at the workers can miss
    "training__checkpoint_every": 1000,
}
SECONDS = 10


@pytest.mark.drill
@pytest.mark.parametrize(
    ("phase", "number"),
    [
        ("part", signal.SIGINT),
        ("update", signal.SIGINT),
        ("slice", signal.SIGTERM),
        ("part", signal.SIGTERM),
        ("update", signal.SIGTERM),
        ("slice", signal.SIGINT),
    ],
)
def test_an_interrupted_command_ends_with_its_ray(tiny, home, phase, number):
    stage, *keep = {
        "part": ("synthesize", "teacher"),
        "update": ("train", "teacher", "synthetic"),
        "slice": ("evaluate", "teacher", "synthetic", "student"),
    }[phase]
    changes = SLOW if phase == "part" else {}
    if phase == "update":
        changes = {k: v for k, v in SLOW.items() if k.startswith("training")}
    if phase == "slice":
        changes = {"evaluation__attacks": [{"name": "pgd", "num_steps": 100_000}]}
    config = tiny(keep=tuple(keep), **changes)
    run = run_of(config)
    before = len(events(run))

    def at_work():
        new = events(run)[before:]
        if phase == "update":
            return [e for e in new if e["event"] == "update"]
        return [e for e in new if phase in e.get("unit", "")][-1:]

    process = start(stage, config, "cluster.address=local", env=home)
    wait_until(at_work, process)
    os.killpg(process.pid, number)
    began = time.monotonic()
    answer = ended(process)
    assert time.monotonic() - began < SECONDS
    assert answer.code == 130, answer
    assert "Traceback" not in answer.err
    assert resuming_command(answer) == [stage, str(config), "cluster.address=local"]
    deadline = time.monotonic() + SECONDS
    while processes(home) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not processes(home)

    if phase == "update":
        (checkpoint,) = events(run, "checkpoint")
        assert 2 * checkpoint["epoch"] + checkpoint["update"] == len(events(run, "update"))
        finished = ended(start(stage, config, "cluster.address=local", env=home))
        assert finished.code == 0, finished
        assert len(events(run, "update")) == 24  # none was repeated
