"""The launch templates, and a machine within this one on which Ray may be started and stopped."""

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
TEMPLATES = sorted(
    path for path in CLUSTER.rglob("*") if path.is_file() and path.suffix not in (".md", ".json")
)
PLACEHOLDER = re.compile(r"CHANGE_ME\w*")

_LOOPBACK_UP = """
import fcntl, os, socket, struct, sys
with socket.socket() as any_socket:
    up = struct.pack("16sh14x", b"lo", 1)
    fcntl.ioctl(any_socket, 0x8914, up)
os.execvp(sys.argv[1], sys.argv[1:])
"""
# `ray stop` ends every Ray it sees: what comes after this sees only its own processes and ports.
ALONE = [
    *("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "--net"),
    *(sys.executable, "-c", _LOOPBACK_UP),
]


def run_alone(home: Mapping[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command as the user of a home, on a machine of its own."""
    return subprocess.run(
        [*ALONE, *command], env=home, capture_output=True, text=True, timeout=300, check=False
    )


def read(name: str) -> dict:
    """Return what a YAML template holds."""
    return yaml.safe_load((CLUSTER / name).read_text())
