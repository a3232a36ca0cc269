"""Reading a pickled dictionary of arrays and plain values without running anything it asks for.

The original CIFAR archives are pickles. A pickle is a program: whoever wrote the file chooses which
functions run when it is read. The reader here knows the names that arrays and bytes are written
with, and gives each a stand-in that only takes a buffer of numbers, so that not even NumPy's own
(unchecked) ``__setstate__`` sees the file's bytes. Any other name is refused.
"""

import pickle
import re
from pathlib import Path
from typing import BinaryIO, Never

import numpy as np

from dfshield.datasets.files import reading
from dfshield.errors import InputError

_NUMBER_TYPE = re.compile(r"[<>|=][biuf][1248]")


def read_pickled_dict(path: Path) -> dict[str, object]:
    """Return a pickled dictionary of arrays of numbers, bytes, str, int, list and dict.

    Args:
        path: a file written by Python 2 (its strings become bytes) or 3; byte keys become str.

    Raises:
        InputError: the pickle wants anything else (the message names it), or is damaged.
    """
    with reading(path, "a pickled batch", pickle.UnpicklingError), path.open("rb") as file:
        content = _Unpickler(file, encoding="bytes", path=path).load()
        if not isinstance(content, dict):
            raise InputError(f"{path}: holds a {type(content).__name__}: wanted a dictionary")
        return {
            _text(key): value.numbers if isinstance(value, _Array) else value
            for key, value in content.items()
        }


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO, *, encoding: str, path: Path) -> None:
        super().__init__(file, encoding=encoding)
        self._path = path

    def find_class(self, module_name: str, global_name: str, /) -> object:
        try:
            return _ALLOWED[module_name, global_name]
        except KeyError:
            wanted = f"{module_name}.{global_name}"
            raise InputError(
                f"{self._path}: refused, the pickle wants {wanted!r}: only arrays of numbers and "
                "plain values are read"
            ) from None

    def persistent_load(self, pid: object) -> Never:
        raise InputError(f"{self._path}: refused, the pickle refers to an outside object ({pid!r})")


class _Type:
    """Stand-in for ``numpy.dtype``: a number type and its byte order."""

    def __init__(self, code: str | bytes, *_flags: object) -> None:
        self.code = _text(code)
        self.order = "="

    def __setstate__(self, state: tuple[object, ...]) -> None:
        self.order = _text(state[1])

    def dtype(self) -> np.dtype[np.generic]:
        if not _NUMBER_TYPE.fullmatch(self.order + self.code):
            raise ValueError(f"an array of type {self.order}{self.code}")
        return np.dtype(self.order + self.code)


class _Array:
    """Stand-in for ``numpy.ndarray``, filled from the state that follows it in the file."""

    def __init__(self) -> None:
        self.numbers = np.empty(0)

    def __setstate__(self, state: tuple[object, tuple[int, ...], _Type, object, bytes]) -> None:
        _version, shape, number_type, column_major, data = state
        flat = np.frombuffer(data, dtype=number_type.dtype())
        self.numbers = flat.reshape(shape, order="F" if column_major else "C")


def _reconstruct(*_arguments: object) -> _Array:
    """Stand-in for the function that makes NumPy's empty array."""
    return _Array()


def _encode(text: str, encoding: str) -> bytes:
    """Stand-in for ``_codecs.encode``, which is how Python 3 writes bytes in protocol 2."""
    if encoding != "latin1":
        raise ValueError(f"bytes written as {encoding}")
    return text.encode("latin1")


def _text(value: object) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else str(value)


_ALLOWED: dict[tuple[str, str], object] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,  # NumPy 1
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,  # NumPy 2
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encode,
}
