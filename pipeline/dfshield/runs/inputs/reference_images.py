"""The real images of a reference: a training that is not data-free, for comparison."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dfshield.config import Config, ReferenceImages
from dfshield.datasets import ImageSet, image_hashes
from dfshield.errors import InputError
from dfshield.runs.inputs.real_data import Takes, fitted, located, read_images

KEY = "training.images.data"

_LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601)."""
_REPEATS = 0.01
"""Share of test images that may be among the training images: data sets repeat a few."""


@dataclass(frozen=True, eq=False)
class ReferenceSet:
    """Real images as a classifier takes them.

    Attributes:
        images: as they are stored; with ``hard`` labels, with the classifier's class numbers.
        input_shape: (c, h, w) that the classifier takes.
        hard: whether the labels are those of the data set; else they are the teacher's.
    """

    images: ImageSet
    input_shape: tuple[int, int, int]
    hard: bool

    def __len__(self) -> int:
        return len(self.images)

    @property
    def as_stored(self) -> bool:
        """Whether the classifier takes them as they are stored."""
        return self.images.input_shape == self.input_shape

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was done to them."""
        found, wanted = self.images.input_shape, self.input_shape
        said = []
        if found[0] != wanted[0]:
            said.append("colour made grey (BT.601)")
        if found[1:] != wanted[1:]:
            sizes = [f"{height}x{width}" for _, height, width in (found, wanted)]
            said.append(f"resized from {sizes[0]} to {sizes[1]} (bilinear, antialiased)")
        return tuple(said)

    def pixels(self, rows: slice) -> Float[Tensor, "n c h w"]:
        """Return these images in [0, 1], in the classifier's shape."""
        images, _ = self.images.tensors(rows)
        channels, *size = self.input_shape
        if images.shape[1] != channels:
            weights = torch.tensor(_LUMA).view(1, 3, 1, 1)
            images = (images * weights).sum(dim=1, keepdim=True)
        if list(images.shape[2:]) != size:
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
        return images.clamp(0, 1)

    def described(self) -> dict[str, object]:
        """Return what outputs say of them, ready for JSON."""
        return {
            "name": self.images.name,
            "split": self.images.split,
            "num_images": len(self),
            "labels": "hard" if self.hard else "teacher",
            "remarks": [*self.images.remarks, *self.remarks],
        }


def reference_set(reference: ReferenceImages, classifier: Takes) -> ReferenceSet:
    """Return the real images that a section of the configuration names, made to fit a classifier.

    With ``hard`` labels they must have its size and classes, as test images must. Else they may be
    of anything: grey images are repeated over channels, colour is made grey, others are resized.

    Raises:
        InputError: if they are unknown, missing, damaged, or do not fit.
    """
    stored = read_images(reference.data, split=reference.data.split, key=KEY)
    hard = reference.labels == "hard"
    if hard:
        return ReferenceSet(fitted(stored, classifier, key=KEY), classifier.input_shape, hard)
    channels = classifier.input_shape[0]
    if stored.input_shape[0] != channels and (stored.input_shape[0], channels) != (3, 1):
        stored = stored.with_channels(channels)
    return ReferenceSet(stored, classifier.input_shape, hard)


def located_reference(config: Config) -> Config:
    """Return the configuration such that it gives the same images in another place."""
    reference = config.training.images
    if reference is None:
        return config
    reference = reference.model_copy(update={"data": located(reference.data, key=KEY)})
    training = config.training.model_copy(update={"images": reference})
    return config.model_copy(update={"training": training})


def require_unseen(config: Config, measured: ImageSet) -> None:
    """Check that the test images are not those that the student is, or was, trained on.

    They are told by what they show. Training images that have gone away since leave that open.

    Raises:
        InputError: if more than a hundredth of them are.
    """
    reference = config.training.images
    if reference is None:
        return
    try:
        stored = read_images(reference.data, split=reference.data.split, key=KEY)
    except InputError:
        return
    known = set(image_hashes(stored))
    seen = sum(one in known for one in image_hashes(measured))
    if seen > _REPEATS * len(measured):
        raise InputError(
            f"{KEY}: {seen:,} of the {len(measured):,} test images (evaluation.data) are among "
            "them: a student is never measured on what it is trained on; name other images"
        )
