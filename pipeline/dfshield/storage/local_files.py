"""Files on a local disk: written whole or not at all, and what killed writers leave behind."""

import fcntl
import os
import re
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from io import FileIO
from pathlib import Path

import pyarrow as pa

from dfshield.storage.locations import explained_errors

# .<name>.<host>.<process>.<random>.dfshield-tmp: the dot hides it from Parquet readers too.
_TEMPORARY = re.compile(r"\..+\.(?P<host>[^.]+)\.(?P<process>\d+)\.[0-9a-f]{32}\.dfshield-tmp")
_ENDING = ".dfshield-tmp"
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
    return path.with_name(f".{path.name}.{writer}{_ENDING}")


class LineAppender:
    """Adds lines at the end of a text file, which stays open between them.

    A line is one append, so several processes may add lines, and it is with the system once it is
    added, so that nobody who is killed loses it. A file that was deleted meanwhile is begun again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: FileIO | None = None
        self._size = -1  # as this writer left it

    def append(self, line: str) -> int:
        """Add one line, starting a new one after a line cut short; return the size of the file.

        Under a lock, because a line that another process is just adding looks like one cut short.

        Raises:
            InputError: when the disk is full or the folder cannot be written.
        """
        with explained_errors(str(self._path)):
            try:
                file = self._open()
                with suppress(OSError):  # a network file system may have no locks
                    fcntl.flock(file, fcntl.LOCK_EX)
                size = self._write(file, line)
                with suppress(OSError):
                    fcntl.flock(file, fcntl.LOCK_UN)
            except BaseException:
                self.close()  # which gives the lock back; the next line opens the file again
                raise
        return size

    def _write(self, file: FileIO, line: str) -> int:
        size = os.fstat(file.fileno()).st_size
        whole = size in (0, self._size) or os.pread(file.fileno(), 1, size - 1) == b"\n"
        data = (b"" if whole else b"\n") + line.encode() + b"\n"
        left = memoryview(data)
        while left:
            left = left[file.write(left) :]
        self._size = size + len(data)
        return self._size

    def close(self) -> None:
        """Close the file until the next line."""
        if self._file is not None:
            self._file.close()
        self._file, self._size = None, -1

    def _open(self) -> FileIO:
        if self._file is not None and os.fstat(self._file.fileno()).st_nlink == 0:
            self.close()
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = FileIO(self._path, "a+")
        return self._file


def files_below(folder: Path) -> Iterator[str]:
    """Yield the names of the files at any depth below a folder, relative to it, by names alone.

    A folder that does not exist has no files.
    """
    folders = [""]
    while folders:
        below = folders.pop()
        with suppress(FileNotFoundError), os.scandir(folder / below) as entries:
            for entry in entries:
                if entry.is_dir():
                    folders.append(f"{below}{entry.name}/")
                elif entry.is_file():
                    yield f"{below}{entry.name}"


def is_temporary(name: str) -> bool:
    """Return whether a file is one that `write_atomically` has not finished."""
    if not name.endswith(_ENDING):  # as nearly all, and there may be very many
        return False
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
