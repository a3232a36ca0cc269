"""A run that takes seconds, and the command line called in this process or as a real one."""

import copy
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest
import yaml

from dfshield.cli.main import main

TINY = {
    "name": "tiny",
    "teacher": {
        "source": "dfshield:resnet8",
        "options": {"width": 8},
        "input_shape": [1, 8, 8],
        "train": {"data": {"name": "digits"}, "epochs": 2},
    },
    "threat": {"norm": "linf", "eps": 0.1},
    "synthesis": {
        "num_images": 80,
        "num_holdout": 20,
        "iterations": 5,
        "batch_size": 20,
        "jitter": 0,
    },
    "training": {
        "epochs": 2,
        "batch_size": 20,
        "gradrefine": {"num_batches": 2},
        "checkpoint_every": 1,
    },
    "evaluation": {
        "data": {"name": "digits"},
        "num_images": 40,
        "attacks": [{"name": "pgd", "num_steps": 3}],
    },
    "storage": {"part_size": 40, "shard_size": 80},
    "cluster": {"address": "none"},
}
STARTED = [str(Path(sys.executable).with_name("dfshield"))]


@dataclass(frozen=True)
class Answer:
    """What a command ended with."""

    code: int
    out: str
    err: str

    def refusal(self, code: int = 2) -> str:
        """The one line of a command that was refused."""
        assert self.code == code, self
        assert "Traceback" not in self.err
        (line,) = [line for line in self.err.splitlines() if line.startswith("Error: ")]
        assert self.err.endswith(f"{line}\n"), self.err
        return line


def changed(tree: dict, **changes: object) -> dict:
    """A copy of nested dictionaries with ``a__b=value`` set at ``a.b``."""
    tree = copy.deepcopy(tree)
    for key, value in changes.items():
        *sections, last = key.split("__")
        section = tree
        for name in sections:
            section = section.setdefault(name, {})
        section[last] = value
    return tree


def write_config(folder: Path, tree: dict = TINY, **changes: object) -> Path:
    """Write ``folder/tiny.yaml``, whose runs lie in ``folder/runs``."""
    folder.mkdir(parents=True, exist_ok=True)
    tree = changed(tree, **{"storage__path": str(folder / "runs"), **changes})
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def hardening(folder, source, **changes):
    """A configuration whose teacher is what ``source`` names."""
    return write_config(folder, **{"teacher": {"source": str(source)}, **changes})


def odd_teacher(kind: str) -> dict[str, object]:
    """The teacher of a configuration that is one of tests/classifiers/odd_factories.py."""
    return {
        "source": "python:odd_factories:make",
        "options": {"kind": kind},
        "input_shape": [1, 8, 8],
        "num_classes": 10,
    }


def call(*args: object) -> Answer:
    """Call the command line in this process."""
    out, err, argv = io.StringIO(), io.StringIO(), sys.argv
    code: object = 0
    sys.argv = ["dfshield", *map(str, args)]
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as end:
        code = end.code or 0
    finally:
        sys.argv = argv
    assert isinstance(code, int)
    return Answer(code, out.getvalue(), err.getvalue())


def succeed(*args: object) -> Answer:
    """Call the command line in this process and insist on success."""
    answer = call(*args)
    assert answer.code == 0, answer
    return answer


def run_of(config: Path) -> Path:
    """The run folder of a configuration that `write_config` wrote."""
    return config.parent / "runs" / "tiny"


def start(
    *args: object,
    command: list[str] = STARTED,
    env: Mapping[str, str] = os.environ,
    stderr: int | IO[str] = subprocess.PIPE,
    cwd: Path | None = None,
) -> subprocess.Popen:
    """Start the command line on one thread, in a process group of its own."""
    return subprocess.Popen(
        [*command, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=stderr,
        cwd=cwd,
        text=True,
        env={**env, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
        preexec_fn=_hear_signals,
    )


def _hear_signals() -> None:
    """Undo what is inherited: SIGINT ignored from a shell's background, SIGHUP from nohup."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def ended(process: subprocess.Popen, seconds: float = 120) -> Answer:
    """Wait for a started process."""
    out, err = process.communicate(timeout=seconds)
    return Answer(process.returncode, out, err)


def finish(*args: object) -> Answer:
    """Run the command line as a process of its own and insist on success."""
    answer = ended(start(*args))
    assert answer.code == 0, answer
    return answer


def wait_until(condition, process: subprocess.Popen, *, seconds: float = 120) -> None:
    """Wait until something holds of what a running process has written."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, ended(process)
        assert time.monotonic() < deadline
        time.sleep(0.002)


def resuming_command(answer: Answer) -> list[str]:
    """The arguments of the command that an interrupted one printed."""
    _, _, command = answer.err.strip().splitlines()[-1].partition("Continue with: ")
    program, *args = shlex.split(command)
    assert program == "dfshield"
    return args


def events(run: Path, *names: str) -> list[dict]:
    """The events of these names (all of them by default), in order."""
    file = run / "events.jsonl"
    lines = file.read_text().split("\n")[:-1] if file.exists() else []
    return [e for e in map(json.loads, lines) if not names or e["event"] in names]


def parts(run: Path) -> dict[str, Path]:
    """The part files of a run by their names in the data set."""
    data = run / "synthetic"
    return {str(p.relative_to(data)): p for p in sorted(data.rglob("*.parquet"))}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder and what it holds."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def nothing_begun(run: Path) -> bool:
    """Whether no stage has left anything but a line in the log of events."""
    return set(contents(run)) <= {"events.jsonl"}


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder with what tells that it was written anew."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file())
    return {str(p.relative_to(folder)): (p.stat().st_mtime_ns, p.stat().st_ino) for p in files}


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """The folder of a configuration whose run is finished; not to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    succeed("run", write_config(folder))
    return folder


@pytest.fixture
def tiny(finished, tmp_path):
    """A function that gives the configuration file of a copy of the finished run.

    ``keep`` names what of the run is copied; by default all of it.
    """

    def make(*, keep: tuple[str, ...] = ("",), name: str = "copy", **changes: object) -> Path:
        config = write_config(tmp_path / name, **changes)
        run = tmp_path / name / "runs" / "tiny"
        for part in keep:
            shutil.copytree(finished / "runs" / "tiny" / part, run / part, dirs_exist_ok=True)
        return config

    return make


@pytest.fixture
def run(finished, tmp_path, monkeypatch):
    """A finished run at ``runs/tiny`` of the current folder, which is also the user's home."""
    shutil.copytree(finished / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / "runs" / "tiny"


@pytest.fixture
def fresh(tmp_path):
    """A function that writes a configuration and gives its file and the place of its run."""

    def make(tree=TINY, **changes):
        config = write_config(tmp_path, tree, **changes)
        return config, tmp_path / "runs" / "tiny"

    return make


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
