"""Cutout: a square of every image is black (DeVries & Taylor 2017)."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from dfshield.checks import at_least
from dfshield.synthesis.augmentations.base import Augmentation, Partners, square_masks
from dfshield.synthesis.base import SynthesizedBatch


class CutoutSet(Augmentation):
    """A square of every image is black, around a pixel that is drawn; it may cross the border.

    Black is 0 on the scale of [0, 1] (the published code cuts images that are normalised, whose 0
    is the mean colour).

    Args:
        side: of the square in pixels; an odd one counts as the even one below. None: half of the
            image's shorter side, which is the published 16 of CIFAR-10.

    Raises:
        InputError: for an option that cannot be.
    """

    name: ClassVar[str] = "cutout"
    columns: ClassVar[Mapping[str, str]] = {"centre_row": "int64", "centre_column": "int64"}

    def __init__(self, *, side: int | None = None) -> None:
        self.side = None if side is None else at_least(2, side, "side")

    def _changed(
        self,
        images: Float[Tensor, "n c h w"],
        labels: Int[Tensor, " n"],
        draw: np.random.Generator,
        partners: Partners | None,
    ) -> SynthesizedBatch:
        del partners
        count, _, *size = images.shape
        side = min(size) // 2 if self.side is None else self.side
        rows, columns = (draw.integers(length, size=count) for length in size)
        sides = np.full(count, side)
        masks = square_masks(rows, columns, sides, sides, (size[0], size[1]))
        cut = images.masked_fill(masks, 0.0)
        return SynthesizedBatch(cut, labels, {"centre_row": rows, "centre_column": columns})
