"""Mixup: weighted means of two images (Zhang et al. 2018)."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dfshield.checks import positive
from dfshield.synthesis.augmentations.base import (
    MIXED_COLUMNS,
    Augmentation,
    Partners,
    mixed_batch,
)
from dfshield.synthesis.base import SynthesizedBatch


class MixupSet(Augmentation):
    """Weighted means of two images, ``m x + (1 - m) x'`` with ``m ~ Beta(alpha, alpha)``.

    The weight is drawn for every image (the published code draws it once a mini-batch); the label
    is that of the heavier image.

    Args:
        alpha: of the Beta distribution, up to 1e6.

    Raises:
        InputError: for an option that cannot be.
    """

    name: ClassVar[str] = "mixup"
    columns: ClassVar[Mapping[str, str]] = MIXED_COLUMNS
    mixes: ClassVar[bool] = True

    def __init__(self, *, alpha: float | int = 1.0) -> None:
        self.alpha = positive(alpha, "alpha", most=1e6)

    def _changed(
        self,
        images: Float[Tensor, "n c h w"],
        labels: Int[Tensor, " n"],
        draw: np.random.Generator,
        partners: Partners | None,
    ) -> SynthesizedBatch:
        assert partners is not None
        mix = draw.beta(self.alpha, self.alpha, len(images))
        weight = torch.from_numpy(mix.astype(np.float32))[:, None, None, None]
        mixed = torch.lerp(partners.images, images, weight).clamp(0.0, 1.0)
        return mixed_batch(mixed, labels, partners, mix)
