"""`dfshield` on Ray as it is used at a terminal: what it shows, how it stops, what it leaves."""

import os
import pty
import re
import select
import signal
import time
from pathlib import Path

import pytest
from ray_head import processes
from tiny_run import STARTED, Answer, contents, events, resuming_command, run_of, start

SECONDS = 10
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def wait_until(condition, seconds=60):
    """Wait until something holds, and return it."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


# ---------------------------------------------------------------- on a terminal


class Terminal:
    """A terminal of 80 columns with a command in it."""

    def __init__(self, env, *args):
        self.raw = ""
        pid, self.fd = pty.fork()
        if not pid:
            os.environ.update(env | {"COLUMNS": "80", "TERM": "xterm", "OMP_NUM_THREADS": "1"})
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.execv(STARTED[0], [*STARTED, *map(str, args)])
        self.pid = pid

    def read(self, seconds=0.1):
        """Take up what was written; return False at the end."""
        try:
            if select.select([self.fd], [], [], seconds)[0]:
                self.raw += os.read(self.fd, 65536).decode(errors="replace")
        except OSError:  # how Linux tells that nobody has the terminal open
            return False
        return True

    def wait_for(self, pattern):
        """Wait until this was shown."""

        def shown():
            assert self.read(), self.raw
            return re.search(pattern, self.shown())

        wait_until(shown)

    def shown(self):
        """All that was ever shown, without the escape sequences."""
        return ESCAPES.sub("", self.raw).replace("\r", "\n")

    def close(self):
        """Wait for the command and return its exit code."""
        while self.read(1.0):
            pass
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.mark.ray
@pytest.mark.slow
def test_the_bar_tells_what_matters_in_80_columns_and_ctrl_c_ends_it(tiny, home):
    slow = {"synthesis__num_images": 320, "synthesis__iterations": 600}
    config = tiny(keep=("teacher",), **slow)
    terminal = Terminal(home, "synthesize", config, "cluster.address=local")
    terminal.wait_for(r"\d workers? on CPU slots")
    terminal.wait_for(r"\d/340 images, [\d.]+/(s|min), \d:\d\d:\d\d left")
    terminal.wait_for(r"\d/4 shards")
    (worker, *_) = [pid for pid, name in processes(home).items() if "ray::PoolWorker" in name]
    os.kill(worker, signal.SIGKILL)
    terminal.wait_for(r"\d/4 shards, 1 retry")
    began = time.monotonic()
    os.write(terminal.fd, b"\x03")  # Ctrl-C
    assert terminal.close() == 130
    assert time.monotonic() - began < SECONDS
    wait_until(lambda: not processes(home), SECONDS)

    rows = terminal.shown().splitlines()
    bars = [row for row in rows if "images" in row]
    assert max(map(len, bars)) <= 80
    assert all(re.match(r"Synthesizing +[━╸╺]+ \d+/340 images", row) for row in bars), bars
    assert len({re.search(r"(\d+)/340", row)[1] for row in bars}) > 3
    assert "was lost" in terminal.shown()
    assert "Traceback" not in terminal.shown()
    assert terminal.raw.rfind("\x1b[?25h") > terminal.raw.rfind("\x1b[?25l")  # the cursor is back
    assert f"Continue with: dfshield synthesize {config}" in "".join(rows)


# ---------------------------------------------------------------- signals


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("gcs_server", signal.SIGINT),
        pytest.param("raylet/raylet", signal.SIGTERM, marks=pytest.mark.drill),
        pytest.param("ray::TrainController", signal.SIGINT, marks=pytest.mark.drill),
        pytest.param("ray::RayTrainWorker", signal.SIGTERM, marks=pytest.mark.drill),
    ],
)
def test_ray_and_its_training_group_can_be_stopped_while_they_start(tiny, home, moment, number):
    changes = {"training__inner": {"num_steps": 100_000}, "training__engine__compile": False}
    config = tiny(keep=("teacher", "synthetic"), **changes)
    process, answer = begin(home, "train", config, "cluster.address=local")
    wait_until(lambda: any(moment in name for name in processes(home).values()))
    stop(process, home, number)
    assert resuming_command(answer()) == ["train", str(config), "cluster.address=local"]
    nothing_is_left(config)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.drill
def test_a_second_ctrl_c_does_not_wait_for_the_update(tiny, home):
    changes = {"training__inner": {"num_steps": 100_000}, "training__engine__compile": False}
    config = tiny(keep=("teacher", "synthetic"), **changes)
    run = run_of(config)
    before = len(events(run, "training_started"))
    process, answer = begin(home, "train", config, "cluster.address=local")
    wait_until(lambda: len(events(run, "training_started")) > before)
    os.killpg(process.pid, signal.SIGINT)
    wait_until(lambda: "once more stops at once" in answer().err)
    assert process.poll() is None
    stop(process, home, signal.SIGINT)
    assert resuming_command(answer())
    nothing_is_left(config)


def begin(env, *args):
    """Start `dfshield` in a process group of its own; return it and what tells its answer."""
    path = Path(env["HOME"]) / "stderr"
    with path.open("w") as stderr:
        process = start(*args, env=env, stderr=stderr)
    return process, lambda: Answer(process.poll(), "", path.read_text())


def stop(process, env, number):
    """Send a signal to the group; all has to be over in seconds."""
    os.killpg(process.pid, number)
    assert process.wait(SECONDS) == 130
    wait_until(lambda: not processes(env), SECONDS)


def nothing_is_left(config):
    run = run_of(config)
    assert not [name for name in contents(run) if ".ray-train" in name or "tmp" in name]
    assert not (run / "student" / "checkpoint.pt").exists()


# ---------------------------------------------------------------- afterwards


AFTERWARDS = """
import sys
from dfshield.cli.main import main
sys.argv = ["dfshield", "--version"]
try:
    main()
except SystemExit:
    pass
import ray
try:
    ray.put(1)
except Exception as error:
    print(type(error).__name__)
print(ray.is_initialized())
"""


def test_what_a_command_leaves_behind_starts_no_ray(home, drive):
    done = drive(AFTERWARDS, home)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "False"
    assert len(done.stdout.split()) == 4, done.stdout  # with the version, and an error
