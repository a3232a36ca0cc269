"""CutMix: a box of an image comes from another one (Yun et al. 2019)."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dfshield.checks import positive, share
from dfshield.synthesis.augmentations.base import (
    MIXED_COLUMNS,
    Augmentation,
    Partners,
    mixed_batch,
    square_masks,
)
from dfshield.synthesis.base import SynthesizedBatch


class CutMixSet(Augmentation):
    """A box of some images comes from another one, at the same place.

    The box has ``sqrt(1 - m)`` of the height and of the width, ``m ~ Beta(alpha, alpha)``, around a
    pixel that is drawn, and may cross the border. The weight of the own image is the share of the
    pixels that are left of it; the label is that of the heavier image. All is drawn for every image
    (the published code draws once a mini-batch).

    Args:
        alpha: of the Beta distribution, up to 1e6.
        probability: that an image is changed.

    Raises:
        InputError: for an option that cannot be.
    """

    name: ClassVar[str] = "cutmix"
    columns: ClassVar[Mapping[str, str]] = MIXED_COLUMNS
    mixes: ClassVar[bool] = True

    def __init__(self, *, alpha: float | int = 1.0, probability: float | int = 0.5) -> None:
        self.alpha = positive(alpha, "alpha", most=1e6)
        self.probability = share(probability, "probability")

    def _changed(
        self,
        images: Float[Tensor, "n c h w"],
        labels: Int[Tensor, " n"],
        draw: np.random.Generator,
        partners: Partners | None,
    ) -> SynthesizedBatch:
        assert partners is not None
        count, _, height, width = images.shape
        side = np.sqrt(1.0 - draw.beta(self.alpha, self.alpha, count))
        side = np.where(draw.random(count) < self.probability, side, 0.0)
        masks = square_masks(
            draw.integers(height, size=count),
            draw.integers(width, size=count),
            (side * height).astype(np.int64),
            (side * width).astype(np.int64),
            (height, width),
        )
        mixed = torch.where(masks, partners.images, images)
        return mixed_batch(mixed, labels, partners, 1.0 - masks.numpy().mean(axis=(1, 2, 3)))
