"""Rows of the drill: the driver dies, in one process."""

import os
import pty
import signal
import sys
import time
from pathlib import Path

import pytest
from drill import SIGNAL_SECONDS, finished, signalled, struck_commands
from tiny_run import events, wait_until

pytestmark = pytest.mark.slow

KILLED, STOPPED = -signal.SIGKILL, 130
ROWS = {
    "SIGKILL": (signal.SIGKILL, 1, 1, KILLED),
    "SIGKILL, five times": (signal.SIGKILL, 1, 5, KILLED),
    "SIGTERM": (signal.SIGTERM, 1, 1, STOPPED),
    "Ctrl-C": (signal.SIGINT, 1, 1, STOPPED),
    "Ctrl-C twice": (signal.SIGINT, 2, 1, STOPPED),
    "SIGHUP": (signal.SIGHUP, 1, 1, STOPPED),
}


@pytest.mark.drill
@pytest.mark.parametrize("row", ROWS)
def test_driver(disturbed, row):
    number, signals, times, code = ROWS[row]
    job = disturbed(f"driver: {row}")
    answer = struck_commands(job, times, signalled(number, signals), code=code)
    job.account_for()
    assert ("has died" in answer.err) == (code == KILLED)


@pytest.mark.drill
def test_inside_a_part(disturbed):
    job = disturbed("driver: SIGKILL, thrice", "inside a part", synthesis__checkpoint_every=10)
    unfinished = job.run / "synthetic" / "unfinished"
    job.also_ripe = lambda: list(unfinished.glob("*.pt"))
    struck_commands(job, 3, signalled(signal.SIGKILL), code=KILLED)
    assert not unfinished.exists()
    job.account_for()


class Forked:
    """As much of a Popen as is needed of a process on a terminal of its own."""

    def __init__(self, *command):
        self.pid, self.terminal = pty.fork()
        if not self.pid:
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            os.environ["OMP_NUM_THREADS"] = "1"
            os.execv(command[0], command)

    def poll(self):
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None


@pytest.mark.drill
def test_a_closed_terminal(disturbed):
    job = disturbed("driver: its terminal is closed")
    program = str(Path(sys.executable).with_name("dfshield"))
    process = Forked(program, "synthesize", str(job.config))
    wait_until(job.ripe, process)
    job.strike(lambda: os.close(process.terminal))
    deadline = time.monotonic() + SIGNAL_SECONDS
    while (code := process.poll()) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert code == STOPPED
    assert events(job.run, "interrupted")
    finished(job)
    job.account_for()
