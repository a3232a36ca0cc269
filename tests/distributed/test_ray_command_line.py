"""`dfshield` on Ray as it is used at a terminal: what it shows, how it stops, what it refuses."""

import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ray_head import PACKAGE, processes, running_head
from tiny_run import Answer, call, contents, events, resuming_command, run_of, start, write_config

import dfshield

PROGRAM = str(Path(sys.executable).with_name("dfshield"))
SECONDS = 10
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# Python runs it first when its folder is on PYTHONPATH.
WITHOUT_RAY = """
import sys


class NoRay:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "ray":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, NoRay())
"""


@pytest.fixture
def env(home):
    """The environment of a user with a home and a Ray folder of their own."""
    return home | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def shadows(tmp_path_factory):
    """Folders that other machines of the cluster see otherwise: as another one, and read-only."""
    folder = tmp_path_factory.mktemp("shadows")
    for name in ("other", "readonly"):
        (folder / name).mkdir()
    return folder


@pytest.fixture(scope="module")
def head(shadows):
    """A running Ray whose processes have file systems of their own in the place of `shadows`."""
    mounts = (
        'cd "$0" && mount -t tmpfs tmpfs other && mount --bind readonly readonly '
        '&& mount -o remount,bind,ro readonly && exec "$@"'
    )
    apart = ["unshare", "--mount", "sh", "-c", mounts, str(shadows)]
    if subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        apart = ["unshare", "--map-root-user", *apart[1:]]
    if subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounting is not permitted here")
    with running_head(within=apart) as env:
        yield env


def command(env, *args, **changes):
    """Run `dfshield` to its end."""
    done = subprocess.run(
        [PROGRAM, *map(str, args)],
        env=env | changes,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


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
            os.environ.update(env | {"COLUMNS": "80", "TERM": "xterm"})
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.execv(PROGRAM, [PROGRAM, *map(str, args)])
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
def test_the_bar_tells_what_matters_in_80_columns_and_ctrl_c_ends_it(tiny, env):
    slow = {"synthesis__num_images": 320, "synthesis__iterations": 600}
    config = tiny(keep=("teacher",), **slow)
    terminal = Terminal(env, "synthesize", config, "cluster.address=local")
    terminal.wait_for(r"\d workers? on CPU slots")
    terminal.wait_for(r"\d/340 images, [\d.]+/s, \d:\d\d:\d\d left")
    terminal.wait_for(r"\d/4 shards")
    (worker, *_) = [pid for pid, name in processes(env).items() if "ray::PoolWorker" in name]
    os.kill(worker, signal.SIGKILL)
    terminal.wait_for(r"\d/4 shards, 1 retry")
    began = time.monotonic()
    os.write(terminal.fd, b"\x03")  # Ctrl-C
    assert terminal.close() == 130
    assert time.monotonic() - began < SECONDS
    wait_until(lambda: not processes(env), SECONDS)

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
        ("ray::RayTrainWorker", signal.SIGTERM),
    ],
)
def test_ray_and_its_training_group_can_be_stopped_while_they_start(tiny, env, moment, number):
    config = tiny(keep=("teacher", "synthetic"), training__inner={"steps": 100_000})
    process, answer = begin(env, "train", config, "cluster.address=local")
    wait_until(lambda: any(moment in name for name in processes(env).values()))
    stop(process, env, number)
    assert resuming_command(answer()) == ["train", str(config), "cluster.address=local"]
    nothing_is_left(config)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.drill
def test_a_second_ctrl_c_does_not_wait_for_the_update(tiny, env):
    config = tiny(keep=("teacher", "synthetic"), training__inner={"steps": 100_000})
    run = run_of(config)
    before = len(events(run, "training_started"))
    process, answer = begin(env, "train", config, "cluster.address=local")
    wait_until(lambda: len(events(run, "training_started")) > before)
    os.killpg(process.pid, signal.SIGINT)
    wait_until(lambda: "once more stops at once" in answer().err)
    assert process.poll() is None
    stop(process, env, signal.SIGINT)
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


# ---------------------------------------------------------------- bad input


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "words"),
    [("other", "is another folder there than here"), ("readonly", "cannot be written there")],
)
def test_a_folder_that_a_node_does_not_share_or_cannot_write_is_named(head, shadows, folder, words):
    config = write_config(shadows / folder)
    line = command(head, "run", config, "cluster.address=auto").refusal()
    assert f"node {socket.gethostname()}: storage.path" in line
    assert words in line
    assert str(shadows / folder / "runs") in line
    assert not [name for name in contents(shadows / folder) if ".dfshield" in name]


@pytest.mark.ray
@pytest.mark.slow
def test_a_cluster_with_another_dfshield_is_named_with_both_versions(head, tmp_path):
    copy = tmp_path / "other" / "dfshield"
    shutil.copytree(PACKAGE / "dfshield", copy)
    source = (copy / "__init__.py").read_text()
    (copy / "__init__.py").write_text(source.replace(dfshield.__version__, "99.0"))
    config = write_config(tmp_path)
    changes = {"PYTHONPATH": str(copy.parent)}
    line = command(head, "run", config, "cluster.address=auto", **changes).refusal()
    assert f"node {socket.gethostname()} has dfshield {dfshield.__version__}" in line
    assert "99.0" in line


@pytest.mark.ray
@pytest.mark.slow
def test_a_cluster_with_another_ray_is_named_with_both_versions(head, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import ray\nray.__version__ = '1.2.3'\n")
    config = write_config(tmp_path)
    changes = {"PYTHONPATH": f"{tmp_path}:{PACKAGE}"}
    line = command(head, "run", config, "cluster.address=auto", **changes).refusal()
    assert f"the Ray at {head['RAY_ADDRESS']} differs" in line
    assert "1.2.3" in line


@pytest.mark.ray
@pytest.mark.slow
def test_more_workers_than_cpus_is_one_line_and_ends_its_ray(env, tmp_path):
    config = write_config(tmp_path)
    many = ("cluster.address=local", "cluster.num_workers=1000")
    line = command(env, "run", config, *many).refusal()
    assert "cluster.num_workers: 1000 wanted, but Ray has" in line
    wait_until(lambda: not processes(env), SECONDS)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("cluster.address=5", "cluster.address: Input should be a valid string"),
        ("cluster.address=''", "cluster.address: String should have at least 1 character"),
        ("cluster.num_workers=two", "cluster.num_workers: Input should be a valid integer"),
        ("cluster.num_workers=0", "cluster.num_workers: Input should be greater than"),
        ("cluster.gpus_per_worker=2", "cluster.gpus_per_worker: Input should be less than"),
        ("cluster.wait=-1", "cluster.wait: Input should be greater than"),
        ("cluster={num_workers: 1, min_workers: 2}", "min_workers: 2 is more than num_workers = 1"),
        ("cluster.max_retries=-1", "cluster.max_retries: Input should be greater than"),
        ("cluster.max_retries=null", "cluster.max_retries: Input should be a valid integer"),
        ("cluster.adress=local", "cluster.adress: unknown key; did you mean 'address'?"),
        ("cluster=local", "cluster: a section of settings was expected"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_name(tmp_path, override, words):
    assert words in call("run", write_config(tmp_path), override).refusal()


# ---------------------------------------------------------------- without Ray


@pytest.fixture
def without_ray(env, tmp_path):
    """An environment in which Ray cannot be imported."""
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_RAY)
    return env | {"PYTHONPATH": f"{tmp_path}:{PACKAGE}"}


def test_a_missing_ray_is_one_line(without_ray, tmp_path):
    config = write_config(tmp_path / "fresh")
    line = command(without_ray, "run", config, "cluster.address=local").refusal()
    assert "pip install 'ray[default,train,tune]'" in line
    assert "cluster.address=none" in line


@pytest.mark.parametrize(
    "words",
    ["run CONFIG cluster.address=local", "status RUN", "verify RUN", "config show CONFIG"],
)
def test_what_needs_no_work_needs_no_ray(tiny, without_ray, words):
    config = tiny()
    names = {"CONFIG": config, "RUN": run_of(config)}
    answer = command(without_ray, *(names.get(word, word) for word in words.split()))
    assert answer.code == 0, answer
    assert "Ray" not in answer.err


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


def test_what_a_command_leaves_behind_starts_no_ray(env):
    done = subprocess.run(
        [sys.executable, "-c", AFTERWARDS], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[-1] == "False"
    assert len(done.stdout.split()) == 4, done.stdout  # with the version, and an error
