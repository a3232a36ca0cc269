"""A Ray started from the command line in a home of its own, and the processes of a machine."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

import dfshield

PACKAGE = Path(dfshield.__file__).parents[1]


def descendants(pid: int) -> set[int]:
    """The processes below one, at any depth."""
    table = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,ppid="], capture_output=True, text=True)
    pairs = [tuple(map(int, line.split())) for line in table.stdout.splitlines()]
    found: set[int] = set()
    while grown := {child for child, parent in pairs if parent in found | {pid}} - found:
        found |= grown
    return found


def living(pids: set[int]) -> dict[int, str]:
    """Those of the processes that live, with their command lines."""
    table = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,stat=,args="], capture_output=True, text=True
    )
    rows = [line.split(maxsplit=2) for line in table.stdout.splitlines()]
    return {int(row[0]): row[2] for row in rows if int(row[0]) in pids and row[1][0] != "Z"}


def gone_within(pids: set[int], seconds: float) -> dict[int, str]:
    """Wait until none of the processes lives; return those that still do."""
    deadline = time.monotonic() + seconds
    while (left := living(pids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def processes(env: Mapping[str, str]) -> dict[int, str]:
    """The processes that were started under an environment's RAY_TMPDIR, with their names."""
    found = {}
    for process in psutil.process_iter():
        try:
            if process.environ().get("RAY_TMPDIR") == env["RAY_TMPDIR"]:
                found[process.pid] = " ".join(process.cmdline())
        except psutil.Error:
            continue
    return found


@contextmanager
def new_home() -> Iterator[dict[str, str]]:
    """Give an environment in which Ray has a home and a temporary folder of its own."""
    root = Path(tempfile.mkdtemp(prefix="dfs-", dir="/tmp"))  # sockets need a short path
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    folders = {"HOME": root / "home", "RAY_TMPDIR": root / "ray"}
    for folder in folders.values():
        folder.mkdir()
    try:
        yield {
            **kept,
            **{name: str(folder) for name, folder in folders.items()},
            "PYTHONPATH": str(PACKAGE),
            "RAY_worker_niceness": "0",
        }
    finally:
        shutil.rmtree(root, ignore_errors=True)


@contextmanager
def running_head(
    changes: Mapping[str, str] | None = None,
    *,
    within: Sequence[str] = (),
    options: Sequence[str] = (),
) -> Iterator[dict[str, str]]:
    """Give a running Ray with a token and two logical GPUs: the environment of who may join it.

    Its environment has these changes; ``within`` is a command that runs it, ``options`` are more
    of those of `ray start`.
    """
    with new_home() as home:
        env = home | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 64}
        with socket.socket() as one, socket.socket() as other:
            one.bind(("", 0))
            other.bind(("", 0))
            port, client_port = one.getsockname()[1], other.getsockname()[1]
        process = subprocess.Popen(
            [
                *within,
                *(sys.executable, "-c", "from ray.scripts.scripts import main; main()"),
                *("start", "--head", "--block", f"--port={port}", "--num-cpus=2", "--num-gpus=2"),
                *("--min-worker-port=0", "--max-worker-port=0", "--include-dashboard=false"),
                *("--dashboard-agent-listen-port=0", f"--ray-client-server-port={client_port}"),
                *options,
            ],
            env=env | {"RAY_USAGE_STATS_ENABLED": "0"} | dict(changes or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            assert process.stdout is not None
            said = []
            while "Ray runtime started" not in (line := process.stdout.readline()):
                said.append(line)
                assert line, "".join(said)
            yield env | {"RAY_ADDRESS": f"127.0.0.1:{port}"}
        finally:
            for pid in descendants(process.pid) | {process.pid}:
                with suppress(ProcessLookupError):
                    os.kill(pid, 9)
            process.communicate()


@pytest.fixture
def home() -> Iterator[dict[str, str]]:
    """An environment in which Ray has a home and a temporary folder of its own."""
    with new_home() as env:
        yield env


@pytest.fixture
def drive(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs a script in a process of its own."""

    def run(script: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", script]
        return subprocess.run(
            command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120
        )

    return run
