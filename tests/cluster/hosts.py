"""Several hosts on one machine: each has its own network address, processes, name and home."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

import dfshield

PACKAGE = Path(dfshield.__file__).parents[1]
NETWORK = "10.203.7"


@dataclass(frozen=True)
class Host:
    """One of the hosts.

    Attributes:
        name: its host name.
        address: its IP address.
        home: the home folder of its user; nobody else has it.
        process: the first process of the host, whose end is the host's.
    """

    name: str
    address: str
    home: Path
    process: subprocess.Popen[bytes]

    def start(self, *command: str, **env: str) -> subprocess.Popen[str]:
        """Start a command there, as in a shell that somebody has logged in to."""
        (init,) = psutil.Process(self.process.pid).children()
        kept = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}
        return subprocess.Popen(
            ["nsenter", f"--target={init.pid}", "--net", "--mount", "--uts", "--pid", *command],
            env={
                **kept,
                "HOME": str(self.home),
                "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}",
                "PYTHONPATH": str(PACKAGE),
                "OMP_NUM_THREADS": "1",
                "RAY_USAGE_STATS_ENABLED": "0",
                "RAY_worker_niceness": "0",
                **env,
            },
            cwd=self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *command: str, **env: str) -> tuple[int, str]:
        """Run a command there; return its exit code and all it wrote."""
        process = self.start(*command, **env)
        said, _ = process.communicate(timeout=240)
        return process.returncode, said

    def kill(self) -> None:
        """Switch it off."""
        self.process.kill()
        self.process.wait()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def permitted() -> bool:
    """Return whether this user may make network namespaces."""
    name = f"dfs-may-{os.getpid()}"
    try:
        done = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    except FileNotFoundError:
        return False
    if done.returncode == 0:
        _ip("netns", "del", name)
    return done.returncode == 0


@contextmanager
def hosts(names: Sequence[str]) -> Iterator[list[Host]]:
    """Give hosts that reach one another and nothing else, in a network of their own."""
    root = Path(tempfile.mkdtemp(prefix="dfs-", dir="/var/tmp"))  # they have their own /tmp/ray
    switch = f"dfs-{os.getpid()}"
    made: list[Host] = []
    spaces = [switch]
    Path("/tmp/ray").mkdir(exist_ok=True)
    try:
        _ip("netns", "add", switch)
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        for number, name in enumerate(names, start=1):
            space, address = f"{switch}-{number}", f"{NETWORK}.{number}"
            spaces.append(space)
            _ip("netns", "add", space)
            link = ("link", "add", f"port{number}", "type", "veth", "peer", "name", "eth0")
            _ip("-n", switch, *link, "netns", space)
            _ip("-n", switch, "link", "set", f"port{number}", "master", "bridge", "up")
            _ip("-n", space, "addr", "add", f"{address}/24", "dev", "eth0")
            _ip("-n", space, "link", "set", "eth0", "up")
            _ip("-n", space, "link", "set", "lo", "up")
            made.append(_host(root, space, name, address))
        yield made
    finally:
        for host in made:
            host.kill()
        for space in spaces:
            subprocess.run(["ip", "netns", "del", space], capture_output=True, check=False)
        shutil.rmtree(root, ignore_errors=True)


def _host(root: Path, space: str, name: str, address: str) -> Host:
    home, own = root / name / "home", root / name / "ray"
    for folder in (home, own):
        folder.mkdir(parents=True)
    script = f"mount --bind {own} /tmp/ray && hostname {name} && touch {home}/up && sleep infinity"
    process = subprocess.Popen(
        [
            *("ip", "netns", "exec", space, "unshare", "--mount", "--uts", "--pid", "--fork"),
            *("--mount-proc", "--kill-child", "sh", "-c", script),
        ]
    )
    deadline = time.monotonic() + 10
    while not (home / "up").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (home / "up").unlink()
    return Host(name, address, home, process)
