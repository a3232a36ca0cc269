"""The contract of the augmentations: how surrogate images are made of finished ones."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

from dfshield.errors import InputError
from dfshield.families import Variant
from dfshield.pixels import box_masks, require_images
from dfshield.synthesis.base import SynthesizedBatch

MIX = "mix"
PARTNER = "partner"
MIXED_COLUMNS: Mapping[str, str] = {MIX: "float64", PARTNER: "int64"}
"""Of images that are mixed of two: the weight of the own one, and which the other is."""


@dataclass(frozen=True, eq=False)
class Partners:
    """What the images of a batch are mixed with, one each.

    Attributes:
        images: in [0, 1].
        labels: theirs.
        indices: their places in the set that they come from.
    """

    images: Float[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]
    indices: Int64[np.ndarray, " n"]


class Augmentation(Variant, ABC):
    """A change of images. A subclass keeps its options as attributes of the same names.

    Attributes:
        columns: what is stored of every image beside pixels, label and logits; see `Synthesizer`.
        mixes: whether every image is mixed with another one.
    """

    columns: ClassVar[Mapping[str, str]]
    mixes: ClassVar[bool] = False

    @final
    def __call__(
        self,
        images: Float[Tensor, "n c h w"],
        labels: Int[Tensor, " n"],
        *,
        draw: np.random.Generator,
        partners: Partners | None = None,
    ) -> SynthesizedBatch:
        """Return a batch of new images, each of one that is given.

        Args:
            images: in [0, 1], on the CPU.
            labels: theirs.
            draw: what draws.
            partners: what they are mixed with, of an augmentation that mixes.

        Raises:
            InputError: for what are no images with labels, or partners that are missing.
        """
        require_images(images)
        if not isinstance(labels, Tensor) or labels.shape != (len(images),):
            raise InputError("labels: must be a tensor (n,), one label an image")
        if self.mixes and (partners is None or partners.images.shape != images.shape):
            raise InputError(f"partners: {self.name} mixes every image with another: give as many")
        return self._changed(images, labels, draw, partners)

    @abstractmethod
    def _changed(
        self,
        images: Float[Tensor, "n c h w"],
        labels: Int[Tensor, " n"],
        draw: np.random.Generator,
        partners: Partners | None,
    ) -> SynthesizedBatch:
        """Return the new batch; see `__call__`."""


def mixed_batch(
    images: Float[Tensor, "n c h w"],
    labels: Int[Tensor, " n"],
    partners: Partners,
    mix: np.ndarray,
) -> SynthesizedBatch:
    """Return a batch of images that were mixed; the label is that of the heavier one.

    Args:
        images: mixed.
        labels: of the own ones.
        partners: see `Partners`.
        mix: the weight of the own one, (n,).
    """
    heavier = torch.from_numpy(mix >= 0.5)
    record = {MIX: mix, PARTNER: partners.indices}
    return SynthesizedBatch(images, torch.where(heavier, labels, partners.labels), record)


def square_masks(
    rows: Int64[np.ndarray, " n"],
    columns: Int64[np.ndarray, " n"],
    heights: Int64[np.ndarray, " n"],
    widths: Int64[np.ndarray, " n"],
    size: tuple[int, int],
) -> Bool[Tensor, "n 1 h w"]:
    """Return where boxes around centres lie, cut at the border: ``[c - s // 2, c + s // 2)``.

    Args:
        rows: of the centres; columns likewise.
        columns: see rows.
        heights: sides s of the boxes; widths likewise.
        widths: see heights.
        size: of the images, (h, w).
    """
    spans = [
        (centres - sides // 2, centres + sides // 2)
        for centres, sides in ((rows, heights), (columns, widths))
    ]
    return box_masks(spans[0], spans[1], size)
