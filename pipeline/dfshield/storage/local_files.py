"""Files on a local disk: written whole or not at all, and what killed writers leave behind."""

import fcntl
import os
import re
import socket
import time
import uuid
from contextlib import suppress
from pathlib import Path

import pyarrow as pa

# .<name>.<host>.<process>.<random>.dfshield-tmp: the dot hides it from Parquet readers too.
_TEMPORARY = re.compile(r"\..+\.(?P<host>[^.]+)\.(?P<process>\d+)\.[0-9a-f]{32}\.dfshield-tmp")
_ABANDONED_AFTER_S = 3600.0


def write_atomically(path: Path, data: bytes | pa.Buffer) -> None:
    """Write under a temporary name beside the file, flush to the disk and rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        with temporary.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())  # else a power cut could leave the new name without its bytes
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def temporary_beside(path: Path) -> Path:
    """Return a name beside a file or folder for what this process has not finished of it."""
    writer = f"{_host()}.{os.getpid()}.{uuid.uuid4().hex}"
    return path.with_name(f".{path.name}.{writer}.dfshield-tmp")


def append_line(path: Path, line: str) -> None:
    """Add one line in one append, starting a new one after a line cut short.

    Under a lock, because a line that another process is just adding looks like one cut short.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as stream:
        with suppress(OSError):  # a network file system may have no locks
            fcntl.flock(stream, fcntl.LOCK_EX)  # given back as the file is closed
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - 1))
        start = b"" if stream.read(1) in (b"", b"\n") else b"\n"
        stream.write(start + line.encode() + b"\n")


def is_temporary(name: str) -> bool:
    """Return whether a file is one that `write_atomically` has not finished."""
    return _TEMPORARY.fullmatch(name.rpartition("/")[2]) is not None


def is_abandoned(path: Path) -> bool:
    """Return whether the writer of a temporary file is surely gone.

    It is when its process no longer lives on this host or, on another host, when the file has been
    untouched for an hour.
    """
    writer = _TEMPORARY.fullmatch(path.name)
    if writer is None:
        return False
    if writer["host"] == _host():
        try:
            os.kill(int(writer["process"]), 0)  # signal 0 only asks whether the process lives
        except ProcessLookupError:
            return True
        except (PermissionError, OverflowError):
            return False
        return False
    try:
        return time.time() - path.stat().st_mtime > _ABANDONED_AFTER_S
    except FileNotFoundError:  # its writer has just finished
        return False


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname()) or "host"
