"""Ctrl-C and SIGTERM while a local Ray works: an end in seconds, and nothing left running."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from tiny_run import ended, events, resuming_command, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SLOW = {
    "synthesis__num_images": 160,
    "synthesis__iterations": 300,
    "training__inner": {"steps": 60},
    "training__epochs": 3,
    "training__checkpoint_every": 1000,
}
SECONDS = 10


@pytest.fixture
def environment():
    """What tells the processes of one Ray from those of others."""
    folder = tempfile.mkdtemp(prefix="dfs-", dir="/tmp")  # sockets need a short path
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    yield {**kept, "RAY_TMPDIR": folder}
    shutil.rmtree(folder, ignore_errors=True)


def processes(environment):
    """The living processes that were started under an environment's RAY_TMPDIR."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("RAY_TMPDIR") == environment["RAY_TMPDIR"]:
                found.append(process.cmdline())
        except psutil.Error:
            continue
    return found


def start(environment, *args):
    return subprocess.Popen(
        [Path(sys.executable).with_name("dfshield"), *map(str, args)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@pytest.mark.parametrize("phase", ["part", "update", "slice"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_ends_with_its_ray(tiny, environment, phase, number):
    stage, *keep = {
        "part": ("synthesize", "teacher"),
        "update": ("train", "teacher", "synthetic"),
        "slice": ("evaluate", "teacher", "synthetic", "student"),
    }[phase]
    changes = SLOW if phase == "part" else {}
    if phase == "update":
        changes = {k: v for k, v in SLOW.items() if k.startswith("training")}
    if phase == "slice":
        changes = {"evaluation__attacks": [{"name": "pgd", "steps": 100_000}]}
    config = tiny(keep=tuple(keep), **changes)
    run = config.parent / "runs" / "tiny"
    before = len(events(run))

    def at_work():
        new = events(run)[before:]
        if phase == "update":
            return [e for e in new if e["event"] == "update"]
        return [e for e in new if phase in e.get("unit", "")][-1:]

    process = start(environment, stage, config, "cluster.address=local")
    wait_until(at_work, process)
    os.killpg(process.pid, number)
    began = time.monotonic()
    answer = ended(process)
    assert time.monotonic() - began < SECONDS
    assert answer.code == 130, answer
    assert "Traceback" not in answer.err
    assert resuming_command(answer) == [stage, str(config), "cluster.address=local"]
    deadline = time.monotonic() + SECONDS
    while processes(environment) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not processes(environment)

    if phase == "update":
        (checkpoint,) = events(run, "checkpoint")
        assert 2 * checkpoint["epoch"] + checkpoint["update"] == len(events(run, "update"))
        finished = ended(start(environment, stage, config, "cluster.address=local"))
        assert finished.code == 0, finished
        assert len(events(run, "update")) == 6  # none was repeated
