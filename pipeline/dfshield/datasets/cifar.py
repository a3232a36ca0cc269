"""CIFAR-10 and CIFAR-100, from the binary or the Python version of the official archives."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dfshield.datasets.files import reading, required
from dfshield.datasets.images import ImageSet, stored_split, without_stored_validation
from dfshield.datasets.unpickle import read_pickled_dict
from dfshield.errors import InputError

_SOURCE = 'from the page "The CIFAR-10 dataset", www.cs.toronto.edu/~kriz/cifar.html'
_IMAGE_BYTES = 3 * 32 * 32

_CIFAR10_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR100_CLASSES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
    butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch
    crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo
    keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain
    mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain
    plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
    skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone
    television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""


@dataclass(frozen=True)
class _Archive:
    """How one of the two data sets is laid out in its official archives."""

    binary_folder: str
    python_folder: str
    batches: dict[str, tuple[str, ...]]
    label_bytes: int  # per binary record; the last of them is the label
    labels_key: str
    names_text: str
    names_pickle: str
    names_key: str
    class_names: tuple[str, ...]


_ARCHIVES = {
    "cifar10": _Archive(
        binary_folder="cifar-10-batches-bin",
        python_folder="cifar-10-batches-py",
        batches={
            "train": tuple(f"data_batch_{number}" for number in range(1, 6)),
            "test": ("test_batch",),
        },
        label_bytes=1,
        labels_key="labels",
        names_text="batches.meta.txt",
        names_pickle="batches.meta",
        names_key="label_names",
        class_names=tuple(_CIFAR10_CLASSES.split()),
    ),
    "cifar100": _Archive(
        binary_folder="cifar-100-binary",
        python_folder="cifar-100-python",
        batches={"train": ("train",), "test": ("test",)},
        label_bytes=2,
        labels_key="fine_labels",
        names_text="fine_label_names.txt",
        names_pickle="meta",
        names_key="fine_label_names",
        class_names=tuple(_CIFAR100_CLASSES.split()),
    ),
}


def load_cifar(name: str, split: str, path: Path | None) -> ImageSet:
    """Return a split of CIFAR-10 or of CIFAR-100 with its fine labels.

    Args:
        name: ``cifar10`` or ``cifar100``.
        split: ``train``, ``val`` (a tenth of the training batches) or ``test``.
        path: the folder with the batches (``data_batch_1.bin`` ... or ``data_batch_1`` ...), or the
            folder that the official archive was unpacked in. The binary version is preferred.

    Raises:
        InputError: a file is missing, damaged or holds something else.
    """
    archive = _ARCHIVES[name]
    batches = archive.batches[stored_split(split, archive.batches)]
    wanted = f"the folder that holds {batches[0]}.bin (binary version) or {batches[0]} (Python)"
    path = required(path, name=name, wanted=wanted, source=_SOURCE)
    for folder in (path, path / archive.binary_folder):
        files = [folder / f"{batch}.bin" for batch in batches]
        if any(file.is_file() for file in files):
            parts = [_read_binary(file, archive) for file in files]
            class_names = _names_from_text(folder / archive.names_text, archive)
            images = _image_set(parts, class_names, name, split, folder)
            return without_stored_validation(images, archive.batches)
    for folder in (path, path / archive.python_folder):
        files = [folder / batch for batch in batches]
        if any(file.is_file() for file in files):
            parts = [_read_pickled(file, archive) for file in files]
            class_names = _names_from_pickle(folder / archive.names_pickle, archive)
            images = _image_set(parts, class_names, name, split, folder)
            return without_stored_validation(images, archive.batches)
    raise InputError(f"path: {path} is not {wanted} ({_SOURCE})")


def _image_set(
    parts: list[tuple[np.ndarray, np.ndarray]],
    class_names: tuple[str, ...],
    name: str,
    split: str,
    folder: Path,
) -> ImageSet:
    planes = np.concatenate([images for images, _ in parts]).reshape(-1, 3, 32, 32)
    pixels = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    labels = np.concatenate([labels for _, labels in parts])
    return ImageSet(pixels, labels, class_names, name, split, origin=str(folder))


def _read_binary(file: Path, archive: _Archive) -> tuple[np.ndarray, np.ndarray]:
    """Return ``(n, 3072)`` uint8 planes and ``(n,)`` labels of a batch of the binary version."""
    record = archive.label_bytes + _IMAGE_BYTES
    with reading(file, "a binary CIFAR batch"):
        content = np.fromfile(file, dtype=np.uint8)
    if not len(content) or len(content) % record:
        raise InputError(
            f"{file}: has {len(content):,} bytes, not a whole number of records of {record} bytes: "
            "it is truncated or of another format"
        )
    records = content.reshape(-1, record)
    return records[:, archive.label_bytes :], _checked(
        records[:, archive.label_bytes - 1], file, archive
    )


def _read_pickled(file: Path, archive: _Archive) -> tuple[np.ndarray, np.ndarray]:
    """Return ``(n, 3072)`` uint8 planes and ``(n,)`` labels of a batch of the Python version."""
    batch = read_pickled_dict(file)
    images, labels = batch.get("data"), batch.get(archive.labels_key)
    if not (
        isinstance(images, np.ndarray)
        and images.dtype == np.uint8
        and images.ndim == 2
        and images.shape[1] == _IMAGE_BYTES
    ):
        raise InputError(f'{file}: wanted "data", a uint8 array of shape (n, {_IMAGE_BYTES})')
    if not (
        isinstance(labels, list)
        and len(labels) == len(images)
        and all(type(label) is int for label in labels)
    ):
        raise InputError(f'{file}: wanted "{archive.labels_key}", {len(images)} integers in a list')
    return images, _checked(np.array(labels), file, archive)


def _checked(labels: np.ndarray, file: Path, archive: _Archive) -> np.ndarray:
    highest = len(archive.class_names) - 1
    if len(labels) and not (labels.min() >= 0 and labels.max() <= highest):
        raise InputError(
            f"{file}: labels run from {labels.min()} to {labels.max()}: wanted 0..{highest}"
        )
    return labels.astype(np.int64)


def _names_from_text(file: Path, archive: _Archive) -> tuple[str, ...]:
    if not file.is_file():
        return archive.class_names
    with reading(file, "a list of class names"):
        names = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    return _checked_names([one for one in names if one], file, archive)


def _names_from_pickle(file: Path, archive: _Archive) -> tuple[str, ...]:
    if not file.is_file():
        return archive.class_names
    names = read_pickled_dict(file).get(archive.names_key)
    if not isinstance(names, list):
        raise InputError(f'{file}: wanted "{archive.names_key}", a list of class names')
    with reading(file, "a list of class names"):
        texts = [one.decode() if isinstance(one, bytes) else str(one) for one in names]
    return _checked_names(texts, file, archive)


def _checked_names(names: list[str], file: Path, archive: _Archive) -> tuple[str, ...]:
    if len(names) != len(archive.class_names):
        raise InputError(f"{file}: has {len(names)} class names: wanted {len(archive.class_names)}")
    return tuple(names)
