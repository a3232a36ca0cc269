"""What the readers of data files share: finding the file, and one line when it is damaged."""

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dfshield.errors import DfshieldError, InputError

# What decoders (zip, zlib, npy, MATLAB, Pillow, pickle) raise on damaged bytes; found by trial.
_DAMAGE: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    OverflowError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    struct.error,
    tokenize.TokenError,
    zlib.error,
    zipfile.BadZipFile,
)


@contextmanager
def reading(path: Path, what: str, *also: type[Exception]) -> Iterator[None]:
    """Turn what a library raises while it decodes ``path`` into one line that names the file.

    Args:
        path: the file.
        what: what it should be, for example ``"an .npz archive"``.
        also: exceptions of the library's own that mean damage.

    Raises:
        InputError: the file cannot be read, or not as ``what``.
    """
    try:
        yield
    except DfshieldError:
        raise
    except _DAMAGE + also as error:
        lines = str(error).splitlines()
        reason = lines[0] if lines else type(error).__name__
        raise InputError(
            f"{path}: cannot be read as {what}, it may be truncated or damaged ({reason})"
        ) from error


def required(path: Path | None, *, name: str, wanted: str, source: str) -> Path:
    """Return ``path``, with ``~`` resolved, if it is there.

    Args:
        path: what the user gave.
        name: the data set.
        wanted: what ``path`` should be.
        source: where the data can be got.

    Raises:
        InputError: it was not given or does not exist.
    """
    if path is None:
        raise InputError(f"path: {name} needs {wanted} ({source})")
    with reading(path, wanted):
        path = path.expanduser()
        exists = path.exists()
    if not exists:
        raise InputError(f"path: {path} does not exist: {name} needs {wanted} ({source})")
    return path


def refuse_split(name: str, split: str, present: tuple[str, ...]) -> None:
    """Raise InputError when a data set does not have a split.

    Args:
        name: the data set or the file.
        split: the split asked for.
        present: the splits it has.
    """
    if split not in present:
        known = " and ".join(f'"{one}"' for one in present)
        raise InputError(f'split: {name} has no "{split}" split, only {known}')
