"""Images in a NumPy ``.npz`` archive, one split or several in one file."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile

from dfshield.datasets.arrays import as_labels
from dfshield.datasets.files import reading, refuse_split, required
from dfshield.datasets.images import (
    SPLITS,
    ImageSet,
    stored_split,
    without_stored_validation,
)
from dfshield.errors import InputError


def load_npz(name: str, split: str, path: Path | None) -> ImageSet:
    """Return a split of an ``.npz`` archive.

    Keys: ``images`` and ``labels`` for a file without splits, or ``train_images``,
    ``train_labels``, ``val_images`` ... for one with; ``class_names`` (an array of strings) is
    optional: else the classes are 0 to the largest label in the file, perhaps of more. A validation
    split that is not there is made as `load_images` says.

    Shape: images ``(n, h, w, c)`` or ``(n, h, w)``, uint8 or float in [0, 1]; labels ``(n,)`` or
    ``(n, 1)``, integers.

    Raises:
        InputError: the file or a key is missing, damaged, pickled, or holds something else.
    """
    path = required(
        path,
        name=name,
        wanted="an .npz file with the arrays images and labels",
        source='write it with numpy.savez("file.npz", images=..., labels=...)',
    )
    with opened(path) as archive:
        present = _splits(archive)
        images, labels = read_split(archive, path, stored_split(split, present))
        class_names, named = _class_names(archive, path), "class_names" in archive
        said = tuple(_unread(archive, path, present))
    loaded = ImageSet(
        images, labels, class_names, name, split, origin=str(path), named=named, remarks=said
    )
    return without_stored_validation(loaded, present)


@contextmanager
def opened(path: Path) -> Iterator[NpzFile]:
    """Open an ``.npz`` archive for reading; nothing in it is unpickled.

    Raises:
        InputError: it is damaged or something else.
    """
    with reading(path, "an .npz archive", NotImplementedError):
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, NpzFile):
            raise InputError(f"{path}: is a single array (.npy): wanted an .npz archive")
        with archive:
            yield archive


def read_split(archive: NpzFile, path: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the images and labels of a split as stored; ``""`` is that of a file without splits.

    Raises:
        InputError: the archive has no such split or lacks its labels.
    """
    prefix = f"{split}_" if split else ""
    if f"{prefix}images" not in archive:
        present = _splits(archive)
        if present:
            refuse_split(str(path), split, present)
        keys = ", ".join(map(repr, archive.files)) or "(none)"
        raise InputError(
            f'{path}: has the keys {keys}: wanted "{prefix}images" and "{prefix}labels"'
        )
    if f"{prefix}labels" not in archive:
        raise InputError(f'{path}: has "{prefix}images" but not "{prefix}labels"')
    return archive[f"{prefix}images"], archive[f"{prefix}labels"]


def _splits(archive: NpzFile) -> tuple[str, ...]:
    return tuple(one for one in SPLITS if f"{one}_images" in archive)


def _unread(archive: NpzFile, path: Path, present: tuple[str, ...]) -> Iterator[str]:
    """Say which arrays look like images or labels and are not read."""
    prefixes = [f"{split}_" for split in present] or [""]
    known = {f"{prefix}{what}" for prefix in prefixes for what in ("images", "labels")}
    looks = re.compile("image|label", re.IGNORECASE)
    unread = [key for key in archive.files if looks.search(key) and key not in known]
    if unread:
        yield f"{', '.join(unread)} in {path} not read: splits are train, val and test"


def _class_names(archive: NpzFile, path: Path) -> tuple[str, ...]:
    if "class_names" in archive:
        names = archive["class_names"]
        if names.dtype.kind != "U" or names.ndim != 1:
            raise InputError(
                f"{path}: class_names is {names.dtype} of shape {names.shape}: "
                "wanted a list of strings"
            )
        return tuple(names.tolist())
    # All splits count, so that the number of classes does not depend on which one is read.
    keys = ("labels", *(f"{split}_labels" for split in SPLITS))
    largest = max(as_labels(archive[key], str(path)).max() for key in keys if key in archive)
    return tuple(str(label) for label in range(int(largest) + 1))
