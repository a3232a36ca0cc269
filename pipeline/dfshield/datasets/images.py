"""Labelled real images, kept as they were stored and converted to tensors row by row."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dfshield.brief import Brief
from dfshield.datasets.arrays import as_labels, as_pixels
from dfshield.errors import InputError
from dfshield.pixels import as_floats

SPLITS = ("train", "val", "test")

VALIDATION_SHARE = 10
"""A validation split that a source lacks is one of this many parts of its training images."""
_VALIDATION_SEED = 10

_ROWS_PER_HASH = 1024


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet(Brief):
    """Labelled images of one size.

    Arrays are checked and brought to the shapes and types below when the set is made; grey images
    may be given as ``(n, h, w)``, labels as ``(n, 1)`` of any integer type.

    Attributes:
        pixels: ``(n, h, w, c)``, uint8 in 0..255 or float32 in [0, 1].
        labels: ``(n,)`` int64 in ``0 .. num_classes - 1``.
        class_names: one name per class.
        name: how the data set is called in :data:`dfshield.datasets.DATASETS`.
        split: ``train``, ``val`` or ``test``.
        origin: the file or folder that error messages name; ``name (split)`` when empty.
        named: False where the source names no class, so that `class_names` only count them.
        remarks: what has to be said of what the source holds, a sentence each.

    Raises:
        InputError: pixels of another type or shape or outside their range, labels that are no class
            numbers, a different number of both, or a class name that stands there twice.
    """

    pixels: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    name: str
    split: str
    origin: str = ""
    named: bool = True
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        where = self._where
        pixels, labels = as_pixels(self.pixels, where), as_labels(self.labels, where)
        if len(pixels) != len(labels):
            raise InputError(
                f"{where}: {len(pixels)} images but {len(labels)} labels: wanted one each"
            )
        if labels.max() >= self.num_classes:
            raise InputError(
                f"{where}: label {labels.max()} is outside 0..{self.num_classes - 1}, "
                f"the {self.num_classes} classes of this set"
            )
        if len(set(self.class_names)) < self.num_classes:
            twice = next(one for one in self.class_names if self.class_names.count(one) > 1)
            raise InputError(f'{where}: the class name "{twice}" stands there twice')
        object.__setattr__(self, "pixels", pixels)
        object.__setattr__(self, "labels", labels)

    @property
    def _where(self) -> str:
        return self.origin or f"{self.name} ({self.split})"

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def num_classes(self) -> int:
        """Number of classes, whether or not each of them occurs."""
        return len(self.class_names)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape of one image as a classifier takes it: ``(c, h, w)``."""
        _, height, width, channels = self.pixels.shape
        return channels, height, width

    def tensors(
        self, index: slice | np.ndarray | None = None
    ) -> tuple[Float[Tensor, "n c h w"], Int[Tensor, " n"]]:
        """Convert the chosen rows, and no others.

        Args:
            index: rows as a slice, integer positions or a boolean mask; all rows when None.

        Returns:
            Images as contiguous float32 NCHW in [0, 1] (uint8 divided by 255) and int64 labels;
            neither shares memory with the set.
        """
        rows = slice(None) if index is None else index
        channels_first = np.array(self.pixels[rows].transpose(0, 3, 1, 2), order="C")
        labels = torch.from_numpy(np.array(self.labels[rows]))
        return as_floats(torch.from_numpy(channels_first)), labels

    def with_channels(self, channels: int) -> "ImageSet":
        """Return the set with the channels a classifier wants: grey is repeated, at no memory.

        Raises:
            InputError: for any conversion but grey to several channels.
        """
        present = self.pixels.shape[3]
        if present == channels:
            return self
        if present != 1 or channels < 1:
            raise InputError(
                f"{self._where}: images have {present} channels where {channels} are wanted: "
                "only grey images (1 channel) are converted"
            )
        return replace(
            self, pixels=np.broadcast_to(self.pixels, (*self.pixels.shape[:3], channels))
        )

    def with_classes(self, class_names: Sequence[str], numbers: Sequence[int]) -> "ImageSet":
        """Return the set with other class numbers.

        Args:
            class_names: of the classes from then on.
            numbers: for each class of this set its number among them.
        """
        labels = np.array(numbers, dtype=np.int64)[self.labels]
        return replace(self, labels=labels, class_names=tuple(class_names))

    def stratified(self, num_images: int, *, seed: int) -> "ImageSet":
        """Return a seeded subset that keeps the class proportions, in the order of this set.

        Class ``k`` with ``n_k`` of ``n`` images gets ``num_images * n_k / n`` of them, rounded by
        largest remainder; every class that occurs gets at least one when ``num_images`` allows.

        Args:
            num_images: how many; the set itself comes back when it has no more than that.
            seed: chooses which images of each class.

        Raises:
            InputError: ``num_images`` is below 1.
        """
        if num_images < 1:
            raise InputError(f"num_images: {num_images} must be at least 1")
        if num_images >= len(self):
            return self
        index = stratified_index(self.labels, num_images, np.random.default_rng(seed))
        return replace(self, pixels=self.pixels[index], labels=self.labels[index])

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of pixels and labels: equal images, equal fingerprint."""
        digest = hashlib.sha256(f"{self.pixels.dtype} {self.pixels.shape}\n".encode())
        for start in range(0, len(self), _ROWS_PER_HASH):
            rows = self.pixels[start : start + _ROWS_PER_HASH]
            digest.update(rows.astype(rows.dtype.newbyteorder("<"), order="C").tobytes())
        digest.update(self.labels.astype("<i8").tobytes())
        return digest.hexdigest()


def image_hashes(images: ImageSet) -> list[bytes]:
    """Return a SHA-256 per image, equal for images that show the same at eight bits.

    It does not depend on the number type of the pixels, nor on whether grey is stored once or as
    three equal channels; labels do not count.
    """
    hashes = []
    for pixels in images.pixels:
        if pixels.dtype != np.uint8:
            pixels = np.rint(pixels * np.float32(255)).astype(np.uint8)
        if (pixels == pixels[..., :1]).all():
            pixels = pixels[..., :1]
        head = f"{pixels.shape}\n".encode()
        hashes.append(hashlib.sha256(head + pixels.tobytes()).digest())
    return hashes


def stratified_index(
    labels: npt.NDArray[np.int64], num_images: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Return ``num_images`` (at most ``len(labels)``) sorted positions in class proportion."""
    classes, counts = np.unique(labels, return_counts=True)
    take, remainder = np.divmod(counts * num_images, len(labels))
    largest_first = np.argsort(-remainder, kind="stable")
    take[largest_first[: num_images - take.sum()]] += 1
    if num_images >= len(classes):
        for absent in np.flatnonzero(take == 0):
            take[take.argmax()] -= 1
            take[absent] = 1
    chosen = [
        rng.permutation(np.flatnonzero(labels == label))[:number]
        for label, number in zip(classes, take, strict=True)
    ]
    return np.sort(np.concatenate(chosen))


def stored_split(split: str, present: Collection[str]) -> str:
    """Return the split of the source that the images of ``split`` lie in.

    Args:
        split: the split asked for.
        present: the splits of the source; none when it is one set of images, called ``""``.
    """
    if not present:
        return ""
    return "train" if split == "val" and "train" in present and "val" not in present else split


def without_stored_validation(images: ImageSet, present: Collection[str]) -> ImageSet:
    """Return what belongs to ``images.split`` of the images of its `stored_split`.

    Where the source has training images but no validation split, ``val`` is a tenth of them, drawn
    stratified by class with a fixed seed, and ``train`` is the rest. A source without any splits is
    divided in the same way, and all of it is ``test``.

    Args:
        images: all images of the stored split; ``images.split`` is the split asked for.
        present: the splits of the source.

    Raises:
        InputError: there are too few images to divide.
    """
    if images.split == "test" or "val" in present:
        return images
    if len(images) < 2:
        raise InputError(f"{images.origin}: holds {len(images)} image: train and val need one each")
    rng = np.random.default_rng(_VALIDATION_SEED)
    number = max(1, len(images) // VALIDATION_SHARE)
    chosen = np.zeros(len(images), dtype=bool)
    chosen[stratified_index(images.labels, number, rng)] = True
    rows = chosen if images.split == "val" else ~chosen
    return replace(images, pixels=images.pixels[rows], labels=images.labels[rows])
