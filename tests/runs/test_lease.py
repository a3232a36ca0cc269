"""One driver at a time on a run, and what is taken over from a dead one."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import psutil
import pytest
from tiny_run import call, contents, ended, events, parts, run_of, start, succeed, wait_until

from dfshield.errors import DfshieldError, InputError
from dfshield.runs import lease, stop_signals_as_interrupt
from dfshield.runs.lease import LEASE_FILE, Lease
from dfshield.storage import Folder

SLOW = {"synthesis__num_images": 160, "synthesis__iterations": 60}


def record(folder):
    return json.loads((folder / LEASE_FILE).read_text())


def write(folder, **changes):
    """Write a lease of this very process with changes."""
    with Lease(Folder.at(folder)):
        held = record(folder)
    (folder / LEASE_FILE).write_text(json.dumps(held | changes))


def ago(seconds):
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def test_a_lease_names_its_holder_and_leaves_nothing(tmp_path):
    run = tmp_path / "runs" / "x"
    with Lease(Folder.at(run)) as held:
        assert held.taken_from is None
        found = record(run)
        assert found["host"] == socket.gethostname()
        assert found["process"] == os.getpid()
        assert found["process_started"] == psutil.Process().create_time()
        assert found["command"] == shlex.join(sys.argv)
    assert not run.exists()


def test_a_second_driver_is_refused_and_told_who_is_at_work(tmp_path):
    root = Folder.at(tmp_path)
    with Lease(root):
        before = contents(tmp_path)
        with (
            pytest.raises(InputError, match="another dfshield is at work here") as refused,
            Lease(root),
        ):
            pass
        assert f"process {os.getpid()} on {socket.gethostname()}" in str(refused.value)
        assert "name=" in str(refused.value)
        assert "\n" not in str(refused.value)
        assert contents(tmp_path) == before


ELSEWHERE = {"host": "elsewhere", "process": 1}


@pytest.mark.parametrize(
    ("changes", "silent_for", "gone"),
    [
        ({}, 5, False),  # this process
        ({}, 3600, False),  # stopped for an hour, but alive
        ({"process": 2**22 + 1}, 1, True),  # no such process
        ({"process_started": 1.0}, 3600, True),  # the number belongs to another one by now
        ({"process_started": 1.0}, 5, False),  # a clock that was set
        (ELSEWHERE, 30, False),
        (ELSEWHERE, 90, True),
    ],
)
def test_a_lease_is_taken_over_when_its_holder_is_gone(tmp_path, changes, silent_for, gone):
    write(tmp_path, **changes, heartbeat=ago(silent_for))
    root = Folder.at(tmp_path)
    if not gone:
        with pytest.raises(InputError, match="another dfshield"), Lease(root):
            pass
        return
    with Lease(root) as held:
        assert held.taken_from is not None
        assert record(tmp_path)["process"] == os.getpid()


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"host": "x"}', "\0", "[" * 100_000])
def test_a_damaged_lease_holds_nobody_up(tmp_path, text):
    (tmp_path / LEASE_FILE).write_text(text)
    with Lease(Folder.at(tmp_path)) as held:
        assert held.taken_from is None


def soon(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_lease_is_renewed_and_beats(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.05)
    beats = []
    with Lease(Folder.at(tmp_path), on_beat=lambda: beats.append(1)):
        first = record(tmp_path)["heartbeat"]
        soon(lambda: record(tmp_path)["heartbeat"] > first and len(beats) > 2)
        (tmp_path / LEASE_FILE).unlink()  # somebody tidies up
        soon(lambda: (tmp_path / LEASE_FILE).exists())
        assert record(tmp_path)["process"] == os.getpid()


@pytest.fixture(params=["in a terminal", "in the background"])
def signals(request):
    """Signals as a shell hands them on: in the background of a script SIGINT is ignored."""
    background = request.param == "in the background"
    handler = signal.SIG_IGN if background else signal.default_int_handler
    before = signal.signal(signal.SIGINT, handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("signals")
def test_whoever_was_taken_over_from_stops(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.05)
    began = time.monotonic()

    def work():
        with stop_signals_as_interrupt(), Lease(Folder.at(tmp_path)):
            other = record(tmp_path) | {"id": "other", "host": "elsewhere"}
            (tmp_path / LEASE_FILE).write_text(json.dumps(other))
            while time.monotonic() - began < 10:
                time.sleep(0.01)

    with pytest.raises(DfshieldError, match="another dfshield has taken over"):
        work()
    assert time.monotonic() - began < 5
    assert record(tmp_path)["id"] == "other"


RACE = """
import sys, time
from dfshield.errors import InputError
from dfshield.runs.lease import Lease
from dfshield.storage import Folder
print("ready", flush=True)
sys.stdin.readline()
try:
    with Lease(Folder.at(sys.argv[1])):
        print("held", flush=True)
        time.sleep(2)
except InputError:
    print("refused")
"""


def test_of_many_that_come_at_once_one_is_let_in(tmp_path):
    write(tmp_path, process=2**22 + 1)  # and all of them find a stale lease
    drivers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    assert {driver.stdout.readline() for driver in drivers} == {"ready\n"}
    for driver in drivers:
        driver.stdin.write("\n")
        driver.stdin.flush()
    said = sorted(driver.communicate(timeout=60)[0].strip() for driver in drivers)
    assert said == ["held"] + 2 * ["refused"]


@pytest.mark.slow
def test_a_second_command_is_refused_and_a_dead_one_is_taken_over(tiny):
    config = tiny(keep=("teacher",), **SLOW)
    run = run_of(config)
    first = start("synthesize", config)
    wait_until(lambda: parts(run), first)
    first.send_signal(signal.SIGSTOP)  # so that it is not done before all others have asked
    before = {name: file.read_bytes() for name, file in parts(run).items()}
    for command in ("run", "synthesize", "train", "evaluate", "report", "teacher"):
        line = call(command, config).refusal()
        assert f"process {first.pid} on {socket.gethostname()}" in line
    assert call("status", run).code == 0
    status = json.loads(succeed("status", run, "--json").out)
    assert status["driver"]["state"] == "at work"
    assert status["driver"]["process"] == first.pid
    first.send_signal(signal.SIGKILL)
    ended(first)
    assert json.loads(succeed("status", run, "--json").out)["driver"]["state"] == "dead"

    again = succeed("synthesize", config)
    assert f"Taking over from a dfshield that has died: process {first.pid}" in again.err
    (lost,) = events(run, "driver_lost")
    assert lost["process"] == first.pid
    status = json.loads(succeed("status", run, "--json").out)
    assert status["driver"] == {"state": "none"}
    assert [death["who"] for death in status["deaths"]] == [
        f"driver (process {first.pid} on {socket.gethostname()})"
    ]
    after = {name: file.read_bytes() for name, file in parts(run).items()}
    assert before.items() <= after.items()
