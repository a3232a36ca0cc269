"""Mirror images."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dfshield.checks import share
from dfshield.training.augmentations.base import Augmentation


class Flip(Augmentation):
    """Mirror images, left to right: not for what a mirror makes another class, as digits.

    Args:
        probability: share of the images that are mirrored, in [0, 1].

    Raises:
        InputError: for a share outside [0, 1].
    """

    name = "flip"

    def __init__(self, *, probability: float | int = 0.5) -> None:
        self.probability = share(probability, "probability")

    def __call__(
        self,
        images: Float[Tensor, "n c h w"],
        labels: Int[Tensor, " n"],
        *,
        generator: np.random.Generator,
    ) -> tuple[Float[Tensor, "n c h w"], Int[Tensor, " n"]]:
        """Return some mirrored; see `Augmentation`."""
        chosen = torch.from_numpy(generator.random(len(images)) < self.probability)
        mirrored = chosen.to(images.device).view(-1, 1, 1, 1)
        return torch.where(mirrored, images.flip(3), images), labels
