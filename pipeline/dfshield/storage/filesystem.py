"""Folders on any file system that pyarrow knows: atomic writes, and errors said in one line."""

import builtins
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import filelock
import pyarrow as pa
import pyarrow.fs as pafs

from dfshield.canonical import json_text, json_value
from dfshield.errors import InputError, one_line
from dfshield.storage.local_files import (
    LineAppender,
    files_below,
    is_abandoned,
    is_temporary,
    write_atomically,
)
from dfshield.storage.locations import explained_errors, open_store, with_retries

Value = TypeVar("Value")
Opener = Callable[[str], pa.NativeFile]

LOCK_TIMEOUT_S = 10.0

# Stores without folders: an object's name may hold any path, and shows once the object is whole.
_OBJECT_STORES = (pafs.S3FileSystem, pafs.GcsFileSystem)


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
            InputError: for an empty location, an unknown scheme or a URI that holds credentials.
        """
        if not str(location):
            raise InputError("an empty path names no folder")
        if isinstance(location, Path) or "://" not in location:
            return cls._local(location)
        filesystem, path = open_store(location)
        return cls(uri=location, path=path, filesystem=filesystem)

    @classmethod
    def _local(cls, location: str | Path) -> "Folder":
        try:
            path = Path(location).expanduser().absolute()
        except RuntimeError as error:
            raise InputError(f"{location}: {one_line(error)}") from None
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

    def parent(self) -> tuple["Folder", str]:
        """Return the folder above, and what this one is called in it."""
        if self.local is not None:
            return self._local(self.local.parent), self.local.name
        parts = urlsplit(self.uri)
        above, _, name = parts.path.rstrip("/").rpartition("/")
        uri = parts._replace(path=above).geturl()
        return Folder.at(uri), name

    def exists(self, name: str) -> bool:
        """Whether a file or folder of this name exists."""
        return bool(self._info(name).type != pafs.FileType.NotFound)

    def size(self, name: str) -> int | None:
        """Return how many bytes a file has; None if there is no such file."""
        info = self._info(name)
        return int(info.size) if info.type == pafs.FileType.File else None

    def list(self, name: str = "") -> builtins.list[str]:
        """Return the files at any depth below ``name``, sorted, as names relative to this folder.

        Temporary files are left out; a folder that does not exist has no files.
        """
        if self.local is None:
            return list(self.sizes(name))
        start = self.local / name
        found = self._ask(name, lambda: sorted(files_below(start)))
        prefix = f"{name}/" if name else ""
        return [f"{prefix}{file}" for file in found if not is_temporary(file)]

    def folders(self) -> builtins.list[str]:
        """Return the names of the folders right below this one, sorted."""
        selector = pafs.FileSelector(self.path, allow_not_found=True)
        found = self._ask("", lambda: self.filesystem.get_file_info(selector))
        return sorted(info.base_name for info in found if info.type == pafs.FileType.Directory)

    def sizes(self, name: str = "") -> dict[str, int]:
        """Return the same files with how many bytes each has; nothing is opened."""
        return {file: size for file, size in self._files(name).items() if not is_temporary(file)}

    def read_bytes(self, name: str, *, start: int = 0) -> bytes:
        """Return what the file holds, from a byte on.

        Raises:
            MissingFileError: if there is no such file.
        """
        if not start:
            stream = self.filesystem.open_input_stream
            return self._read(name, stream, lambda file: bytes(file.read()))

        def read(file: pa.NativeFile) -> bytes:
            file.seek(start)
            return bytes(file.read())

        return self.read_within(name, read)

    def read_within(self, name: str, action: Callable[[pa.NativeFile], Value]) -> Value:
        """Return what an action reads of a file, which is opened for reading at any place.

        The action reads and does nothing else: what it raises is taken for the file system's.

        Raises:
            MissingFileError: if there is no such file.
        """
        return self._read(name, self.filesystem.open_input_file, action)

    def write_bytes(self, name: str, data: bytes | pa.Buffer) -> None:
        """Write a whole file, or leave what was there untouched; missing parents are created.

        On a local disk the bytes go to a temporary name beside the file, are flushed to the disk
        and renamed. Object stores take one object, which shows only once it is complete. Other
        stores may show a file that was cut short; whoever reads one checks it.

        Raises:
            InputError: when the disk is full, the folder cannot be written or access is refused.
            DfshieldError: when a store does not answer, though asked for a minute.
        """

        def write() -> None:
            if self.local is not None:
                write_atomically(self.local / name, data)
                return
            path = self._inside(name)
            if not isinstance(self.filesystem, _OBJECT_STORES):
                self.filesystem.create_dir(path.rpartition("/")[0], recursive=True)
            with self.filesystem.open_output_stream(path) as stream:
                stream.write(data)

        self._ask(name, write)

    def read_json(self, name: str) -> Any:
        """Return the value of a JSON file.

        Raises:
            MissingFileError: if there is no such file.
            InputError: if it is not JSON.
        """
        data = self.read_bytes(name)
        try:
            return json_value(data)
        except ValueError as error:
            raise InputError(f"{self._shown(name)}: not a JSON file: {one_line(error)}") from None

    def write_json(self, name: str, value: object) -> None:
        """Write a value (NaN and infinity excluded) as JSON, atomically, in one canonical way."""
        self.write_bytes(name, json_text(value).encode())

    def lines(self, name: str) -> LineAppender:
        """Return what adds lines to a text file, on a local disk only: objects cannot grow."""
        assert self.local is not None
        return LineAppender(self.local / name)

    def delete(self, name: str) -> None:
        """Delete a file; nothing happens when there is none."""
        self._delete(name, self.filesystem.delete_file, self._inside(name))

    def remove(self) -> None:
        """Delete the folder with all it holds; nothing happens when there is none."""
        self._delete("", self.filesystem.delete_dir, self.path)

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Keep other processes out of the block, by a lock file; elsewhere than on a disk, do not.

        Raises:
            InputError: if the folder cannot be written.
            DfshieldError: if another process keeps the lock for long.
        """
        if self.local is None:
            yield
            return
        lock = filelock.FileLock(self.local / name, timeout=LOCK_TIMEOUT_S)
        with explained_errors(self._shown(name)):
            self.local.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def as_path(self, *names: str) -> Iterator[Path]:
        """Give a local path to read these files at: the folder, or copies of them for the block."""
        if self.local is not None:
            yield self.local
            return
        with tempfile.TemporaryDirectory(prefix="dfshield-") as copies:
            for name in names:
                if self.exists(name):
                    Path(copies, name).write_bytes(self.read_bytes(name))
            yield Path(copies)

    def sweep_temporary(self) -> builtins.list[str]:
        """Delete, at any depth, what killed writers left behind, and return the names.

        A temporary file is left alone while its writer may still be at work: as long as its process
        lives on this host, and on another host until the file has been untouched for an hour.
        """
        if self.local is None:  # objects show only when complete: nothing is left behind
            return []
        left = [f for f in self._files("") if is_temporary(f) and is_abandoned(self.local / f)]
        for file in left:
            self.delete(file)
        return left

    def _files(self, name: str) -> dict[str, int]:
        start = self._inside(name) if name else self.path
        selector = pafs.FileSelector(start, allow_not_found=True, recursive=True)
        found = self._ask(name, lambda: self.filesystem.get_file_info(selector))
        prefix = len(self.path.rstrip("/")) + 1
        files = {info.path[prefix:]: info.size for info in found if info.type == pafs.FileType.File}
        return dict(sorted(files.items()))

    def _info(self, name: str) -> pafs.FileInfo:
        return self._ask(name, lambda: self.filesystem.get_file_info(self._inside(name)))

    def _read(self, name: str, opened: Opener, action: Callable[[pa.NativeFile], Value]) -> Value:
        def read() -> Value:
            try:
                with opened(self._inside(name)) as file:
                    return action(file)
            except FileNotFoundError:
                raise MissingFileError(f"{self._shown(name)}: there is no such file") from None

        return self._ask(name, read)

    def _delete(self, name: str, action: Callable[[str], None], path: str) -> None:
        def delete() -> None:
            with suppress(FileNotFoundError):
                action(path)

        self._ask(name, delete)

    def _inside(self, name: str) -> str:
        return f"{self.path.rstrip('/')}/{name}"

    def _shown(self, name: str) -> str:
        return f"{str(self).rstrip('/')}/{name}" if name else str(self)

    def _ask(self, name: str, action: Callable[[], Value]) -> Value:
        """Do something with the file system; see `explained_errors` for what it raises."""
        with explained_errors(self._shown(name)):
            return action() if self.local is not None else with_retries(action, self._shown(name))
