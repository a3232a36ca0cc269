"""Folders on any file system that pyarrow knows: atomic writes, and errors said in one line."""

import builtins
import errno
import json
import os
import re
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from dfshield.errors import DfshieldError, InputError

# .<name>.<host>.<process>.<random>.dfshield-tmp: the dot hides it from Parquet readers too.
_TEMPORARY = re.compile(r"\..+\.(?P<host>[^.]+)\.(?P<process>\d+)\.[0-9a-f]{32}\.dfshield-tmp")
_ABANDONED_AFTER_S = 3600.0

_REMEDIES = {
    errno.ENOSPC: "free some space and run the same command again",
    errno.EDQUOT: "free some space and run the same command again",
    errno.EACCES: "grant the permission or choose another folder, and run the same command again",
    errno.EPERM: "grant the permission or choose another folder, and run the same command again",
    errno.EROFS: "make it writable or choose another folder, and run the same command again",
    errno.ENOENT: "no folder can be made there: choose another folder",
    errno.ENOTDIR: "a part of the path is a file: choose another folder",
    errno.EEXIST: "a part of the path is a file: choose another folder",
    errno.EISDIR: "a file is wanted here: choose another name",
    errno.ENAMETOOLONG: "choose a shorter name",
}


class MissingFileError(InputError):
    """A file that was asked for does not exist."""


@dataclass(frozen=True)
class Folder:
    """A folder on a pyarrow file system; it need not exist until something is written.

    Picklable: another process opens it again from ``uri``, with its own credentials.

    Attributes:
        uri: how to open it again with ``Folder.at``.
        path: where it lies inside ``filesystem``.
        filesystem: the ``pyarrow.fs.FileSystem``.
    """

    uri: str
    path: str = field(compare=False)
    filesystem: pafs.FileSystem = field(compare=False, repr=False)

    @classmethod
    def at(cls, location: str | Path) -> "Folder":
        """Open a local path (relative, absolute or with ``~``) or a URI such as ``s3://bucket/a``.

        Raises:
            InputError: for an empty location, an unknown scheme or a store that does not answer.
        """
        if not str(location):
            raise InputError("an empty path names no folder")
        if isinstance(location, Path) or "://" not in location:
            return cls._local(location)
        try:
            filesystem, path = pafs.FileSystem.from_uri(location)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise InputError(
                f"{location}: not a location that can be opened: {_line(error)}"
            ) from None
        return cls(uri=location, path=path, filesystem=filesystem)

    @classmethod
    def _local(cls, location: str | Path) -> "Folder":
        try:
            path = Path(location).expanduser().absolute()
        except RuntimeError as error:
            raise InputError(f"{location}: {_line(error)}") from None
        return cls(uri=path.as_uri(), path=str(path), filesystem=pafs.LocalFileSystem())

    def __reduce__(self) -> tuple[Callable[[str], "Folder"], tuple[str]]:
        return Folder.at, (self.uri,)

    def __str__(self) -> str:
        return self.path if self.local else self.uri

    @property
    def local(self) -> Path | None:
        """The folder's path on a local disk; None on any other file system."""
        return Path(self.path) if isinstance(self.filesystem, pafs.LocalFileSystem) else None

    def child(self, *names: str) -> "Folder":
        """Return the folder ``names[0]/names[1]/…`` below this one."""
        below = "/".join(names)
        if self.local is not None:
            return self._local(self.local / below)
        parts = urlsplit(self.uri)  # a query (the options of an object store) stays behind the path
        uri = parts._replace(path=f"{parts.path.rstrip('/')}/{below}").geturl()
        return Folder(uri=uri, path=self._inside(below), filesystem=self.filesystem)

    def exists(self, name: str) -> bool:
        """Whether a file or folder of this name exists."""
        with self._told(name):
            info = self.filesystem.get_file_info(self._inside(name))
            return bool(info.type != pafs.FileType.NotFound)

    def list(self, name: str = "") -> builtins.list[str]:
        """Return the files at any depth below ``name``, sorted, as names relative to this folder.

        Temporary files are left out; a folder that does not exist has no files.
        """
        return [file for file in self._files(name) if not _is_temporary(file)]

    def read_bytes(self, name: str) -> bytes:
        """Return what the file holds.

        Raises:
            MissingFileError: if there is no such file.
        """
        with self.open_input(name) as stream:
            return bytes(stream.read())

    @contextmanager
    def open_input(self, name: str) -> Iterator[pa.NativeFile]:
        """Open a file for reading in pieces.

        Raises:
            MissingFileError: if there is no such file.
        """
        with self._told(name):
            try:
                stream = self.filesystem.open_input_file(self._inside(name))
            except FileNotFoundError:
                raise MissingFileError(f"{self._shown(name)}: there is no such file") from None
            with stream:
                yield stream

    def write_bytes(self, name: str, data: bytes | pa.Buffer) -> None:
        """Write a whole file, or leave what was there untouched; missing parents are created.

        On a local disk the bytes go to a temporary name beside the file, are flushed to the disk
        and renamed; elsewhere they go out as one object, which shows only once it is complete.

        Raises:
            InputError: when the disk is full or the folder cannot be written.
        """
        with self._told(name):
            if self.local is not None:
                _write_local(self.local / name, data)
                return
            with self.filesystem.open_output_stream(self._inside(name)) as stream:
                stream.write(data)

    def read_json(self, name: str) -> Any:
        """Return the value of a JSON file.

        Raises:
            MissingFileError: if there is no such file.
            InputError: if it is not JSON.
        """
        data = self.read_bytes(name)
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{self._shown(name)}: not a JSON file: {_line(error)}") from None

    def write_json(self, name: str, value: object) -> None:
        """Write a value (NaN and infinity excluded) as JSON, atomically, in one canonical way."""
        text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
        self.write_bytes(name, f"{text}\n".encode())

    def append_line(self, name: str, line: str) -> None:
        """Add one line at the end of a text file, starting a new one after a line cut short.

        On a local disk a line is one append, so several processes may add lines. Elsewhere nothing
        can be appended to: the file is written anew, which is safe for a single writer only.
        """
        with self._told(name):
            if self.local is not None:
                _append_local(self.local / name, line)
                return
        before = self.read_bytes(name) if self.exists(name) else b""
        self.write_bytes(name, before + _line_after(before[-1:], line))

    def delete(self, name: str) -> None:
        """Delete a file; nothing happens when there is none."""
        with self._told(name), suppress(FileNotFoundError):
            self.filesystem.delete_file(self._inside(name))

    def remove(self) -> None:
        """Delete the folder with all it holds; nothing happens when there is none."""
        with self._told(""), suppress(FileNotFoundError):
            self.filesystem.delete_dir(self.path)

    def sweep_temporary(self) -> builtins.list[str]:
        """Delete, at any depth, what killed writers left behind, and return the names.

        A temporary file is left alone while its writer may still be at work: as long as its process
        lives on this host, and on another host until the file has been untouched for an hour.
        """
        if self.local is None:  # objects show only when complete: nothing is left behind
            return []
        left = [f for f in self._files("") if _is_temporary(f) and _is_abandoned(self.local / f)]
        for file in left:
            self.delete(file)
        return left

    def _files(self, name: str) -> builtins.list[str]:
        start = self._inside(name) if name else self.path
        selector = pafs.FileSelector(start, allow_not_found=True, recursive=True)
        with self._told(name):
            found = self.filesystem.get_file_info(selector)
        prefix = len(self.path.rstrip("/")) + 1
        return sorted(info.path[prefix:] for info in found if info.type == pafs.FileType.File)

    def _inside(self, name: str) -> str:
        return f"{self.path.rstrip('/')}/{name}"

    def _shown(self, name: str) -> str:
        return f"{str(self).rstrip('/')}/{name}" if name else str(self)

    @contextmanager
    def _told(self, name: str) -> Iterator[None]:
        """Turn an error of the file system into one line that names the file and the way out."""
        try:
            yield
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else _line(error)
            remedy = _REMEDIES.get(error.errno or 0)
            if remedy is None:
                hint = "mend it and run the same command again"
                raise DfshieldError(f"{self._shown(name)}: {reason}: {hint}") from error
            raise InputError(f"{self._shown(name)}: {reason}: {remedy}") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname()) or "host"


def _write_local(path: Path, data: bytes | pa.Buffer) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = f"{_host()}.{os.getpid()}.{uuid.uuid4().hex}"
    temporary = path.with_name(f".{path.name}.{writer}.dfshield-tmp")
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


def _append_local(path: Path, line: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - 1))
        stream.write(_line_after(stream.read(1), line))


def _line_after(last_byte: bytes, line: str) -> bytes:
    start = b"" if last_byte in (b"", b"\n") else b"\n"
    return start + line.encode() + b"\n"


def _is_temporary(name: str) -> bool:
    return _TEMPORARY.fullmatch(name.rpartition("/")[2]) is not None


def _is_abandoned(path: Path) -> bool:
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
