"""scikit-learn's real handwritten digits: 1,797 grey images of 8x8 pixels, ten classes."""

from functools import cache
from pathlib import Path

import numpy as np

from dfshield.datasets.images import ImageSet, stratified_index
from dfshield.errors import InputError

_SPLIT_SEED = 1797
_NUM_TEST, _NUM_VAL = 500, 200


def load_digits(name: str, split: str, path: Path | None) -> ImageSet:
    """Return a split of the digits: train 1,097, val 200, test 500 images.

    The source has no official split. This one is stratified by class and fixed: 500 test images are
    drawn first, then 200 validation images from the rest, by a generator of its own with a constant
    seed; each split keeps the order of the source. Values 0..16 become float32 in [0, 1].

    Raises:
        InputError: a path was given; the images come with scikit-learn.
    """
    if path is not None:
        raise InputError(f"path: {name} come with scikit-learn, so no path is needed: leave it out")
    images, labels, splits = _source()
    rows = splits[split]
    return ImageSet(
        pixels=images[rows] / np.float32(16),
        labels=labels[rows],
        class_names=tuple(str(digit) for digit in range(10)),
        name=name,
        split=split,
    )


@cache
def _source() -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Return images, labels and the rows of every split: read once, for it is text in a gzip."""
    # Imported here: it takes half a second that no other data set needs.
    from sklearn import datasets

    source = datasets.load_digits()
    labels = np.asarray(source.target, dtype=np.int64)
    return np.asarray(source.images, dtype=np.float32), labels, _split_rows(labels)


def _split_rows(labels: np.ndarray) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(_SPLIT_SEED)
    rest = np.arange(len(labels))
    rows = {}
    for split, number in (("test", _NUM_TEST), ("val", _NUM_VAL)):
        chosen = stratified_index(labels[rest], number, rng)
        rows[split] = rest[chosen]
        rest = np.delete(rest, chosen)
    return rows | {"train": rest}
