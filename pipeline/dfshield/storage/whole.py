"""A folder or a file that appears under its name when all of it is written, or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from dfshield.errors import InputError
from dfshield.storage.filesystem import Folder
from dfshield.storage.local_files import is_abandoned, temporary_beside
from dfshield.storage.locations import explained_errors


def require_absent(target: Folder) -> None:
    """Check that there is no file or folder at a place.

    Raises:
        InputError: if there is one.
    """
    parent, name = target.parent()
    if not name or parent.exists(name):
        raise InputError(f"{target}: exists already: name another place, or delete it")


@contextmanager
def whole_folder(target: Folder) -> Iterator[Folder]:
    """Give a folder to write to, which is ``target`` once the block ends without an error.

    On a local disk it has a temporary name until then. On a store it is ``target`` itself, deleted
    after an error; a file that is written last tells there that the others are complete.

    Raises:
        InputError: if ``target`` exists or cannot be written.
    """
    require_absent(target)
    if target.local is None:
        try:
            yield target
        except BaseException:
            target.remove()
            raise
        return
    with _temporary(target.local) as path:
        yield Folder.at(path)


@contextmanager
def whole_file(target: Folder) -> Iterator[Path]:
    """Give a local path to write a file at, which is at ``target`` once the block ends well.

    Raises:
        InputError: if ``target`` exists or cannot be written.
    """
    require_absent(target)
    if target.local is not None:
        with _temporary(target.local) as path:
            yield path
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        return
    with tempfile.TemporaryDirectory(prefix="dfshield-") as folder:
        path = Path(folder, "file")
        with explained_errors(str(path)):
            yield path
        parent, name = target.parent()
        with pa.memory_map(str(path)) as content:
            parent.write_bytes(name, content.read_buffer())


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """Give a name beside a path; what is made there is renamed after the block, or deleted."""
    with explained_errors(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.iterdir():
            if left.name.startswith(f".{path.name}.") and is_abandoned(left):
                _delete(left)  # by a writer that was killed
        temporary = temporary_beside(path)
        try:
            yield temporary
            temporary.rename(path)
        except BaseException:
            _delete(temporary)
            raise


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
