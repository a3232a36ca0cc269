"""Checkpoints of a stage: tensors and plain containers in one file that is checked when read."""

import hashlib
import io
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dfshield.errors import DfshieldError
from dfshield.storage.filesystem import Folder, MissingFileError

_HEADER = "dfshield-checkpoint-1 {}\n"  # followed by what torch.save wrote
_LEAVES = (type(None), bool, int, float, str, bytes)


def save_checkpoint(folder: Folder, name: str, state: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically, replacing the one of the same name.

    Args:
        folder: where it goes.
        name: the file's name.
        state: tensors, numbers, strings, bytes and None, in dicts, lists, tuples and sets.

    Raises:
        TypeError: if the state holds anything else, which could not be read back safely.
        InputError: if the folder cannot be written.
    """
    plain = dict(state)
    _require_plain(plain, "state")
    buffer = io.BytesIO()
    torch.save(plain, buffer)
    payload = buffer.getvalue()
    header = _HEADER.format(hashlib.sha256(payload).hexdigest()).encode()
    folder.write_bytes(name, header + payload)


def load_checkpoint(folder: Folder, name: str) -> dict[str, Any] | None:
    """Return the state of a checkpoint, its tensors on the CPU; None when there is no such file.

    Raises:
        DfshieldError: if the file is truncated, altered or not a checkpoint.
    """
    try:
        data = folder.read_bytes(name)
    except MissingFileError:
        return None
    broken = DfshieldError(
        f"{folder}/{name}: this checkpoint is truncated, altered or of another format: "
        "delete it to start this stage afresh"
    )
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
