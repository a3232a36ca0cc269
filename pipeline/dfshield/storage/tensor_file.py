"""The tensors of a surrogate data set in a file without a name, which processes of a machine share.

Parquet is decoded into memory of the process that reads it, also from a mapped file. Here the
decoded rows stand once for a machine: processes that map the file read the same pages, which the
system drops, and reads again when they are needed, where memory is short.
"""

import mmap
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dfshield.storage.arrays import PartArrays
from dfshield.storage.manifest import Manifest
from dfshield.storage.surrogate import SurrogateTensors

_TOKEN_BYTES = 16  # a multiple of the largest item, so that all columns are aligned


class TensorFileAddress(NamedTuple):
    """Where another process of the machine finds a `TensorFile`.

    Attributes:
        pid: the process that made it.
        descriptor: the file's in that process.
        token: the bytes that the file begins with.
        has_room: whether the disk had room for all rows when the file was made.
    """

    pid: int
    descriptor: int
    token: bytes
    has_room: bool


@dataclass(frozen=True)
class TensorLayout:
    """Which rows of a data set a file holds: labels, logits and images, one after the other.

    Attributes:
        manifest: of the data set.
        num_images: rows.
    """

    manifest: Manifest
    num_images: int

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors."""
        return sum(self.num_images * self._row_bytes(name) for name in self._columns)

    @property
    def _columns(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """The dtype and the shape of one row of every column, by its name."""
        return {
            "labels": ("int64", ()),
            "teacher_logits": ("float32", (self.manifest.num_classes,)),
            "images": (self.manifest.image_dtype, self.manifest.image_shape),
        }

    def _row_bytes(self, name: str) -> int:
        dtype, shape = self._columns[name]
        return np.dtype(dtype).itemsize * prod(shape)

    def _start(self, name: str) -> int:
        names = list(self._columns)
        before = names[: names.index(name)]
        return _TOKEN_BYTES + sum(self.num_images * self._row_bytes(other) for other in before)

    def write(self, file: IO[bytes], rows: slice, arrays: PartArrays) -> None:
        """Write these rows, the first of the arrays."""
        for name in self._columns:
            values = getattr(arrays, name)[: rows.stop - rows.start]
            file.seek(self._start(name) + rows.start * self._row_bytes(name))
            file.write(np.ascontiguousarray(values).data)
        file.flush()

    def map(self, file: IO[bytes]) -> SurrogateTensors:
        """Return the tensors of a file that is complete; they share its pages."""
        mapped = mmap.mmap(file.fileno(), _TOKEN_BYTES + self.nbytes)

        def tensor(name: str) -> Tensor:
            dtype, shape = self._columns[name]
            count, start = self.num_images * prod(shape), self._start(name)
            flat = torch.frombuffer(mapped, dtype=getattr(torch, dtype), count=count, offset=start)
            return flat.view(self.num_images, *shape)

        return SurrogateTensors(*(tensor(n) for n in ("images", "labels", "teacher_logits")))


@dataclass(frozen=True)
class TensorFile:
    """Labels, logits and images in a temporary file that no folder shows.

    It lives as long as any process has it open or mapped: killed processes leave nothing behind.

    Attributes:
        layout: what it holds.
        address: where other processes of this machine find it, until it is closed.
    """

    layout: TensorLayout
    address: TensorFileAddress
    _file: IO[bytes]

    @classmethod
    @contextmanager
    def create(cls, layout: TensorLayout) -> "Iterator[TensorFile]":
        """Make an empty one for the block, where Python's ``tempfile`` has its folder (``TMPDIR``).

        Raises:
            OSError: if that folder cannot be written.
        """
        with tempfile.TemporaryFile() as file:
            token = secrets.token_bytes(_TOKEN_BYTES)
            file.write(token)
            file.flush()
            has_room = shutil.disk_usage(tempfile.gettempdir()).free > layout.nbytes
            address = TensorFileAddress(os.getpid(), file.fileno(), token, has_room)
            yield cls(layout, address, file)

    def at(self, address: TensorFileAddress) -> "TensorFile | None":
        """Open the file of an address, of the same layout; None if it is on another machine.

        Where a system has no ``/proc``, no process finds the file of another one.
        """
        if address == self.address:
            return self
        path = Path(f"/proc/{address.pid}/fd/{address.descriptor}")
        with suppress(OSError):
            if stat.S_ISREG(path.stat().st_mode):
                file = path.open("r+b")
                if file.read(_TOKEN_BYTES) == address.token:
                    return TensorFile(self.layout, address, file)
                file.close()
        return None

    def write(self, rows: slice, arrays: PartArrays) -> None:
        """Write these rows, the first of the arrays.

        Raises:
            OSError: if there is no room for them.
        """
        self.layout.write(self._file, rows, arrays)

    def tensors(self) -> SurrogateTensors:
        """Map the file, once all rows are written by whichever process."""
        return self.layout.map(self._file)

    def close(self) -> None:
        """Close it; what is mapped stays."""
        self._file.close()
