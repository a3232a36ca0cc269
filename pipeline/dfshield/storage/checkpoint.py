"""Checkpoints: tensors and plain containers in one file that is checked when it is read."""

import hashlib
import io
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dfshield.errors import DfshieldError
from dfshield.storage.filesystem import Folder, MissingFileError

_HEADER = "dfshield-checkpoint-1 {}\n"  # followed by what torch.save wrote
_CONTENT = "content"
"""Key of the state under which its version stands."""
_LEAVES = (type(None), bool, int, float, str, bytes)


@dataclass(frozen=True)
class Checkpoint:
    """The file from which an interrupted stage goes on; it is replaced as the work goes on.

    Attributes:
        folder: where it lies.
        name: of the file.
        holds: what it is a checkpoint of, such as ``training of a student``.
        keys: of the state.
        version: of the state, which the file carries. Whoever changes what the state holds raises
            it. Files of the first releases carry none, and are of version 1.
    """

    folder: Folder
    name: str
    holds: str
    keys: tuple[str, ...] = ()
    version: int = 1

    def exists(self) -> bool:
        """Whether there is such a file."""
        return self.folder.exists(self.name)

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the state atomically, replacing what was there.

        Args:
            state: tensors, numbers, strings, bytes and None, in dicts, lists, tuples and sets.

        Raises:
            TypeError: if the state holds anything else, which could not be read back safely.
            InputError: if the folder cannot be written.
        """
        plain = {**state, _CONTENT: self._content(self.version)}
        _require_plain(plain, "state")
        buffer = io.BytesIO()
        torch.save(plain, buffer)
        payload = buffer.getvalue()
        header = _HEADER.format(hashlib.sha256(payload).hexdigest()).encode()
        self.folder.write_bytes(self.name, header + payload)

    def load(self) -> dict[str, Any] | None:
        """Return the state, its tensors on the CPU; None when there is no such file.

        Raises:
            DfshieldError: if the file is truncated, altered or no checkpoint, holds something else,
                or is of another version.
        """
        state = self._read()
        if state is None:
            return None
        found, read = state.pop(_CONTENT, self._content(1)), self._content(self.version)
        if found != read:
            raise self.refused(f"holds the state of a {found}; this dfshield reads a {read}")
        missing = [key for key in self.keys if key not in state]
        if missing:
            raise self.refused(f"lacks {', '.join(missing)}: it is none of a {self.holds}")
        return state

    def delete(self) -> None:
        """Delete the file; nothing happens when there is none."""
        self.folder.delete(self.name)

    def refused(self, why: str) -> DfshieldError:
        """Return the error of a file that cannot be used: its name, why, and what to do."""
        return DfshieldError(
            f"{self.folder}/{self.name}: {why}: delete it to start this stage afresh"
        )

    def _read(self) -> dict[str, Any] | None:
        try:
            data = self.folder.read_bytes(self.name)
        except MissingFileError:
            return None
        broken = self.refused("this checkpoint is truncated, altered or of another format")
        header, _, payload = data.partition(b"\n")
        if header + b"\n" != _HEADER.format(hashlib.sha256(payload).hexdigest()).encode():
            raise broken
        try:
            state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, ValueError, TypeError, LookupError, EOFError):
            raise broken from None
        if not isinstance(state, dict):
            raise broken
        return state

    def _content(self, version: int) -> str:
        return f"{self.holds}, version {version}"


def _require_plain(value: object, place: str) -> None:
    """Refuse what the restricted unpickler would refuse, before it is too late.

    Exact types: a NumPy float is a Python float too, but is pickled as something else.
    """
    if isinstance(value, Tensor) or type(value) in _LEAVES:
        return
    if isinstance(value, dict) and type(value) in (dict, OrderedDict):
        for key, item in value.items():
            _require_plain(key, f"a key of {place}")
            _require_plain(item, f"{place}[{key!r}]")
    elif isinstance(value, list | tuple | set) and type(value) in (list, tuple, set):
        for index, item in enumerate(value):
            _require_plain(item, f"{place}[{index}]")
    else:
        raise TypeError(
            f"{place}: a checkpoint holds tensors and plain values, not {type(value).__qualname__}"
        )
