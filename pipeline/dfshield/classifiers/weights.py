"""Reading weights of foreign origin, and telling how they differ from a network."""

import pickle
import re
import struct
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from dfshield.brief import Brief
from dfshield.errors import InputError, one_line

_CONTAINERS = ("state_dict", "model_state_dict", "model", "net")
_PREFIXES = ("module.", "model.", "network.", "backbone.", "_orig_mod.")
_LISTED = 5
_NO_WEIGHTS = {
    b"<!doctype": "a web page",
    b"<html": "a web page",
    b"<?xml": "an XML document",
    b"version https://git-lfs": "a Git LFS pointer",
}
# What torch.load raises for bytes that are no checkpoint, found by feeding it damaged files.
_UNREADABLE = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    LookupError,
    OverflowError,
    MemoryError,
    struct.error,
)


@dataclass(frozen=True, eq=False, repr=False)
class Weights(Brief):
    """What a weights file holds.

    Attributes:
        path: the file, for messages.
        tensors: the network's weights by name.
        as_named: all tensors by the names that the file gives them, without wrappers' prefixes.
        normalisation: mean and std, c numbers each, where the file has them.
        dtypes: types of ``mean`` and ``std``, where the file has them.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    as_named: Mapping[str, Tensor]
    normalisation: tuple[list[float], list[float]] | None
    dtypes: Mapping[str, torch.dtype] = field(default_factory=dict)


def read_weights(path: str | Path) -> Weights:
    """Read a safetensors file, or a state_dict that ``torch.save`` wrote, whatever its name.

    A state_dict may lie inside a dict under "state_dict", "model_state_dict", "model" or "net".
    Nothing but tensors and plain containers is unpickled.

    Raises:
        InputError: if the file is missing, damaged, holds Python objects or no state_dict, or has
            a weight that is not finite.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder; weights must name a file")
    if not path.exists():
        raise InputError(f"{path}: no such weights file")
    try:
        content = load_file(path) if _is_safetensors(path) else _torch_load(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except SafetensorError as error:
        raise InputError(
            f"{path}: truncated, or not a safetensors file ({one_line(error)})"
        ) from None
    tensors = _state_dict(path, content)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor.float()).all():
            raise InputError(f"{path}: {name} holds NaN or infinite values")
    for candidate in _stripped(tensors):
        if _is_classifier(candidate):
            network = {
                name.removeprefix("network."): tensor
                for name, tensor in candidate.items()
                if name.startswith("network.")
            }
            mean, std = candidate["mean"], candidate["std"]
            dtypes = {"mean": mean.dtype, "std": std.dtype}
            return Weights(path, network, candidate, (decimals(mean), decimals(std)), dtypes)
    return Weights(path, tensors, tensors, None)


def decimals(buffer: Tensor) -> list[float]:
    """Return float32 values as the shortest decimals that give them back: 0.485, not 0.48500001."""
    return [float(str(value)) for value in buffer.detach().cpu().float().numpy().flat]


def _is_safetensors(path: Path) -> bool:
    """Tell by its first bytes what a file is; by its name where these do not tell.

    Raises:
        InputError: for what is often found in place of a weights file.
    """
    with path.open("rb") as stream:
        head = stream.read(512)
    for start, what in _NO_WEIGHTS.items():
        if head.lstrip().lower().startswith(start):
            raise InputError(f"{path}: is {what}, no weights file: fetch the file itself")
    if head[8:9] == b"{":  # behind the length of a header in JSON
        return True
    return path.suffix == ".safetensors" and not head.startswith((b"PK", b"\x80"))


def _torch_load(path: Path) -> object:
    try:
        with path.open("rb") as stream, warnings.catch_warnings():
            # Warnings about the pickle protocol of what turns out to be no pickle at all.
            warnings.simplefilter("ignore", UserWarning)
            # Opened here, since torch too goes by the name of a path.
            return torch.load(stream, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        found = re.search(r"GLOBAL (\S+)|(TorchScript)", str(error))
        if found:
            raise InputError(
                f"{path}: holds Python objects ({found[1] or found[2]}), which are not read since "
                "they can run code: write the weights alone, torch.save(model.state_dict(), path)"
            ) from None
        raise InputError(
            f"{path}: truncated, or not a file that torch.save wrote ({type(error).__name__})"
        ) from None


def _state_dict(path: Path, content: object) -> dict[str, Tensor]:
    while isinstance(content, Mapping):
        inner = [content[key] for key in _CONTAINERS if isinstance(content.get(key), Mapping)]
        if not inner:
            break
        content = inner[0]
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: holds a {type(content).__name__}, not a state_dict")
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors or len(tensors) < len(content):
        odd = [str(key) for key in content if str(key) not in tensors]
        raise InputError(
            f"{path}: holds no state_dict; entries that are no tensors: {_list(odd) or 'none'}"
        )
    return tensors


def _stripped(tensors: Mapping[str, Tensor]) -> Iterator[Mapping[str, Tensor]]:
    """Yield the tensors as named, then without each wrapper's prefix where a name has it."""
    yield tensors
    for prefix in _PREFIXES:
        if any(name.startswith(prefix) for name in tensors):
            stripped = {name.removeprefix(prefix): t for name, t in tensors.items()}
            if len(stripped) == len(tensors):
                yield from _stripped(stripped)


def _is_classifier(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are the tensors of a whole `Classifier`: normalisation and network."""
    rest = tensors.keys() - {"mean", "std"}
    return 0 < len(rest) == len(tensors) - 2 and all(name.startswith("network.") for name in rest)


def fit_weights(network: nn.Module, weights: Weights, *, source: str, num_classes: int) -> None:
    """Copy weights into a network whose names and shapes they must match.

    Wrapper prefixes ("module.", "_orig_mod.", ...) are dropped. ``num_batches_tracked`` may be
    absent, as in checkpoints older than that counter.

    Raises:
        InputError: names the keys that are missing, unexpected or of another shape.
    """
    wanted = {key: t for key, t in network.state_dict().items() if isinstance(t, Tensor)}
    found = min(_stripped(weights.tensors), key=lambda t: len(t.keys() ^ wanted.keys()))
    optional = {key for key in wanted if key.endswith("num_batches_tracked")}
    missing = [key for key in wanted if key not in found and key not in optional]
    unexpected = [key for key in found if key not in wanted]
    reshaped = [key for key in wanted if key in found and found[key].shape != wanted[key].shape]
    if not (missing or unexpected or reshaped):
        try:
            network.load_state_dict(dict(found), strict=False)
        except RuntimeError as error:
            raise InputError(
                f"{weights.path}: does not load into {source}: {one_line(error)}"
            ) from error
        return
    other = _other_class_count(wanted, found, reshaped, num_classes)
    if other and not (missing or unexpected):
        raise InputError(
            f"{weights.path}: the weights have {other} classes, num_classes is {num_classes}"
        )
    shapes = [f"{k} {tuple(found[k].shape)} for {tuple(wanted[k].shape)}" for k in reshaped]
    report = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    raise InputError(
        f"{weights.path}: the weights do not fit {source}: "
        + "; ".join(f"{len(keys)} {what}: {_list(keys)}" for what, keys in report.items() if keys)
    )


def _other_class_count(
    wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], reshaped: list[str], classes: int
) -> int | None:
    """Return the file's class count if that is all in which the shapes differ."""
    counts = {
        found[key].shape[0] if found[key].ndim else 0
        for key in reshaped
        if wanted[key].shape[:1] == (classes,) and wanted[key].shape[1:] == found[key].shape[1:]
    }
    same_kind = all(wanted[key].shape[:1] == (classes,) for key in reshaped)
    return counts.pop() if same_kind and len(counts) == 1 else None


def _list(keys: list[str]) -> str:
    return ", ".join(keys[:_LISTED]) + (", ..." if len(keys) > _LISTED else "")
