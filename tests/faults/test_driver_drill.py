"""Rows of the drill: the driver dies, in one process or beside a Ray of its own."""

import os
import pty
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from drill import SIGNAL_SECONDS, SLOWER, at_work, finished, part_stamps, signalled, struck_commands
from ray_head import processes
from tiny_run import ended, events, start, wait_until

pytestmark = pytest.mark.slow

KILLED, STOPPED = -signal.SIGKILL, 130
QUICK_ROWS = ("SIGKILL", "Ctrl-C")
ROWS = {
    "SIGKILL": (signal.SIGKILL, 1, 1, KILLED),
    "SIGKILL, five times": (signal.SIGKILL, 1, 5, KILLED),
    "SIGTERM": (signal.SIGTERM, 1, 1, STOPPED),
    "Ctrl-C": (signal.SIGINT, 1, 1, STOPPED),
    "Ctrl-C twice": (signal.SIGINT, 2, 1, STOPPED),
    "SIGHUP": (signal.SIGHUP, 1, 1, STOPPED),
}


@pytest.mark.parametrize(
    "row", [pytest.param(row, marks=() if row in QUICK_ROWS else pytest.mark.drill) for row in ROWS]
)
def test_driver(disturbed, row):
    number, signals, times, code = ROWS[row]
    job = disturbed(f"driver: {row}")
    answer = struck_commands(job, times, signalled(number, signals), code=code)
    job.account_for()
    assert ("has died" in answer.err) == (code == KILLED)


@pytest.mark.ray
@pytest.mark.drill
@pytest.mark.parametrize("row", ["SIGKILL", "SIGTERM", "Ctrl-C twice", "SIGHUP"])
def test_driver_with_a_local_ray(disturbed, home, row):
    number, signals, times, code = ROWS[row]
    job = disturbed(f"driver with a local Ray: {row}", workers=2, synthesis=SLOWER)
    kill = signalled(number, signals)

    def kill_and_see_that_ray_is_gone(process):
        kill(process)
        deadline = time.monotonic() + SIGNAL_SECONDS
        while processes(home) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not processes(home)

    two = ("cluster.address=local", "cluster.num_workers=2")
    struck_commands(job, times, kill_and_see_that_ray_is_gone, *two, code=code, env=home)
    job.account_for()


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


README = Path(__file__).parents[2] / "README.md"


def story():
    """The commands of "Resume what was interrupted", as they stand in the README."""
    _, _, text = README.read_text().partition("\n## Resume what was interrupted\n")
    block = text.split("```bash\n", 1)[1].split("```", 1)[0]
    return [line.partition("#")[0].split() for line in block.splitlines()]


@pytest.mark.ray
@pytest.mark.drill
@pytest.mark.timeout(1200)
def test_the_story_of_the_readme(counted, home, tmp_path):
    account, began = counted("driver: the story of the README", "synthesis"), time.monotonic()
    shutil.copytree(README.parent / "examples", tmp_path / "examples")
    first, *others = story()
    run = tmp_path / "runs" / "digits"

    def command(words):
        assert words[0] == "dfshield"
        return start(*words[1:], env=home, cwd=tmp_path)

    process = command(first)
    wait_until(lambda: part_stamps(run) and at_work(run), process, seconds=300)
    before = part_stamps(run)
    process.kill()
    account.kills, account.committed = 1, [len(before)]
    assert ended(process).code == KILLED
    answers = [command(words).communicate(timeout=900) for words in others]
    told, resumed, verified = (out for out, _ in answers)
    assert "has died" in told
    assert "AutoAttack" in resumed
    assert "6 of 6 parts verify" in verified
    assert "0 differ" in verified
    assert before.items() <= part_stamps(run).items()
    account.seconds = time.monotonic() - began
