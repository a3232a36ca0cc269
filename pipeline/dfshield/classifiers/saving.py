"""A classifier on disk, named as on the Hugging Face hub: weights, config.json, README.md."""

import json
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import safetensors.torch
import torch

from dfshield.classifiers.architecture import Architecture
from dfshield.classifiers.base import WRAPPED, Classifier
from dfshield.classifiers.behaviour import Behaviour
from dfshield.classifiers.sources import assemble
from dfshield.classifiers.weights import Weights, decimals, fit_weights, read_weights
from dfshield.errors import ChangedCodeError, InputError, UnfitDeviceError, one_line

FORMAT_VERSION = 2
"""Version 2 has ``behaviour``; a classifier without one is written as version 1."""
WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
CARD_FILE = "README.md"


def save(
    classifier: Classifier,
    folder: str | Path,
    *,
    card: str | None = None,
    data_free: bool | None = None,
) -> None:
    """Write ``model.safetensors`` and ``config.json`` into a folder, made if need be.

    Each file appears whole or not at all, the config last; equal classifiers give equal bytes.
    Other files in the folder are left alone.

    Args:
        classifier: what to save, on any device.
        folder: where to.
        card: text of the model card, written as ``README.md``.
        data_free: whether it was hardened without a real image; None says nothing of that.

    Raises:
        InputError: if the folder cannot be written, nothing is left half-written; for what is no
            `Classifier` or was made by `Classifier.wrap`: nothing says how to build it again.
    """
    folder = Path(folder)
    files = {} if card is None else {CARD_FILE: card.encode()}
    files |= serialised(classifier, data_free=data_free)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder, files)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror or error}") from error


def serialised(classifier: Classifier, *, data_free: bool | None = None) -> dict[str, bytes]:
    """Return the files that `save` writes, by name, in the order in which they are written.

    Args:
        classifier: what to save.
        data_free: as `save` takes it.

    Raises:
        InputError: for a classifier that cannot be built again; see `save`.
    """
    if not isinstance(classifier, Classifier):
        raise InputError(_not_saved(f"a {type(classifier).__name__} is no Classifier"))
    if classifier.architecture.source.startswith(WRAPPED):
        raise InputError(
            _not_saved(f"{classifier.architecture.source} was made by Classifier.wrap")
        )
    # One metadata key: with more, the order of the header's bytes would vary.
    weights = safetensors.torch.save(classifier.tensors(), metadata={"format": "pt"})
    fingerprint, behaviour = classifier.identity()
    config = {
        "format_version": 1 if behaviour is None else FORMAT_VERSION,
        "architecture": classifier.architecture.to_json(),
        "mean": decimals(classifier.mean),
        "std": decimals(classifier.std),
        "fingerprint": fingerprint,
    }
    if behaviour is not None:
        config["behaviour"] = behaviour.to_json()
    if data_free is not None:
        config["data_free"] = data_free
    text = json.dumps(config, indent=2) + "\n"
    return {WEIGHTS_FILE: weights, CONFIG_FILE: text.encode()}


def _not_saved(why: str) -> str:
    return (
        f"classifier: {why}, and nothing says how to build it again: let a function of a module "
        'return the network, make dfshield.classifiers.build("python:MODULE:FUNCTION", ...), give '
        "its network the weights by load_state_dict, and save that"
    )


def _write(folder: Path, files: dict[str, bytes]) -> None:
    """Write all files under temporary names, then rename them in the order given."""
    suffix = f".{uuid.uuid4().hex}.tmp"
    temporary = {name: folder / f".{name}{suffix}" for name in files}
    try:
        for name, content in files.items():
            with temporary[name].open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        for name, path in temporary.items():
            path.replace(folder / name)
    finally:
        for path in temporary.values():
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Description:
    """What ``config.json`` says of a saved classifier.

    Attributes:
        architecture: how its network is built again.
        mean: of its normalisation, one number per channel.
        std: of its normalisation.
        fingerprint: which tells it from all others; `load` checks it.
        behaviour: as `Behaviour.to_json` gave it; None where none was saved.
        data_free: whether it was hardened without a real image; None where that is not known, or
            it was not hardened.
    """

    architecture: Architecture
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    behaviour: object = None
    data_free: bool | None = None


def describe(folder: str | Path) -> Description:
    """Return what a folder says of the classifier in it; nothing is built or called.

    Raises:
        InputError: if ``config.json`` is missing, damaged, of a newer format or not ours.
    """
    path = Path(folder) / CONFIG_FILE
    config = _read_config(path)
    try:
        architecture = Architecture.from_json(cast("dict[str, object]", config["architecture"]))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    mean, std = (tuple(map(float, cast("list[float]", config[key]))) for key in ("mean", "std"))
    fingerprint, free = str(config["fingerprint"]), config.get("data_free")
    data_free = free if isinstance(free, bool) else None
    return Description(architecture, mean, std, fingerprint, config.get("behaviour"), data_free)


def load(
    folder: str | Path, *, device: str | torch.device = "cpu", trust_python: bool = False
) -> Classifier:
    """Return the classifier that `save` wrote, in eval mode.

    Args:
        folder: the folder that was saved to.
        device: where the classifier goes.
        trust_python: rebuild a classifier whose source is ``python:...`` by importing and calling
            the factory that the folder names, with the options it names. Without it such a folder
            is refused, since that may run any code that can be imported here.

    Raises:
        InputError: if a file is missing, damaged, of a newer format or changed since it was saved,
            or if the device is not there.
        ChangedCodeError: if the factory builds a network that answers otherwise than the saved one.
        UnfitDeviceError: if the device is there, but busy, full or faulty.
    """
    folder = Path(folder)
    saved = describe(folder)
    path, architecture = folder / WEIGHTS_FILE, saved.architecture
    weights = read_weights(path)
    try:
        if architecture.source.startswith("python:") and not trust_python:
            raise InputError(
                f"it calls {architecture.source.removeprefix('python:')} to build the classifier; "
                "if you trust the folder, load it with trust_python=True (--trust-python)"
            )
        classifier = assemble(architecture, mean=saved.mean, std=saved.std)
    except InputError as error:
        raise InputError(f"{folder / CONFIG_FILE}: {error}") from error
    fit_weights(
        classifier.network,
        weights,
        source=architecture.source,
        num_classes=architecture.num_classes,
    )
    _give_dtypes(classifier, weights)
    same = weights.normalisation == (list(saved.mean), list(saved.std))
    if not same or not _is_the_saved_one(classifier, saved, path):
        raise InputError(
            f"{path}: does not match the fingerprint in {CONFIG_FILE}: one of the two was changed "
            "or damaged after it was saved"
        )
    try:
        return classifier.to(device)
    except (RuntimeError, AssertionError) as error:
        if isinstance(error, torch.OutOfMemoryError | torch.AcceleratorError) and _is_there(device):
            raise UnfitDeviceError(f"{device} cannot be used now: {one_line(error)}") from None
        raise InputError(f"device: {str(device)!r} cannot be used: {one_line(error)}") from None


def _is_there(device: str | torch.device) -> bool:
    return (torch.device(device).index or 0) < torch.accelerator.device_count()


def _give_dtypes(classifier: Classifier, weights: Weights) -> None:
    """Give every weight and buffer the type that it was saved in."""
    for name, tensor in classifier.network.state_dict(keep_vars=True).items():
        if name in weights.tensors and tensor.dtype != weights.tensors[name].dtype:
            tensor.data = weights.tensors[name].to(tensor.device)
    for name, buffer in (("mean", classifier.mean), ("std", classifier.std)):
        buffer.data = buffer.data.to(weights.dtypes.get(name, buffer.dtype))


def _is_the_saved_one(classifier: Classifier, saved: Description, path: Path) -> bool:
    """Return whether weights and fingerprint belong together, and let it be the classifier's.

    Raises:
        ChangedCodeError: if they do, but the network answers otherwise than the saved one.
    """
    behaviour = None
    if saved.behaviour is not None:
        try:
            behaviour = Behaviour.from_json(saved.behaviour, num_classes=classifier.num_classes)
        except InputError as error:
            raise InputError(f"{path.with_name(CONFIG_FILE)}: {error}") from None
    classifier.keep_behaviour(behaviour)
    if classifier.fingerprint() != saved.fingerprint:
        return False
    if behaviour is not None and not behaviour.same_as(classifier.behaviour()):
        raise ChangedCodeError(
            f"{path.parent}: {classifier.architecture.source} now builds a network that answers "
            "otherwise than the one that was saved with these weights: its code was changed since; "
            "go back to that code, or go on under another name="
        )
    return True


def _read_config(path: Path) -> dict[str, object]:
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; a saved classifier has one") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise InputError(f"{path}: is not valid JSON: {error}") from None
    version = config.get("format_version") if isinstance(config, dict) else None
    if not isinstance(version, int):
        raise InputError(f"{path}: has no format_version, so dfshield did not write it")
    if version > FORMAT_VERSION:
        raise InputError(
            f"{path}: has format_version {version}, this dfshield reads up to {FORMAT_VERSION}: "
            "upgrade dfshield"
        )
    match config:
        case {"architecture": dict(), "mean": list(mean), "std": list(std), "fingerprint": str()}:
            if all(isinstance(value, int | float) for value in [*mean, *std]):
                return cast("dict[str, object]", config)
    raise InputError(
        f"{path}: needs architecture, mean, std and fingerprint as dfshield writes them"
    )
