"""Images with a square blotted out."""

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from dfshield.checks import at_least
from dfshield.training.augmentations.base import Augmentation, boxes, require_smaller


class Cutout(Augmentation):
    """Cutout (DeVries and Taylor 2017): a square of zeros, centred anywhere, cut off at the border.

    Args:
        size: side of the square in pixels; 16 of 32 in the paper for ten classes.

    Raises:
        InputError: for a size below 1.
    """

    name = "cutout"

    def __init__(self, *, size: int = 8) -> None:
        self.size = at_least(1, size, "size")

    def require_fits(self, image_shape: tuple[int, ...]) -> None:
        """Check that the square is smaller than the images; see `Augmentation`."""
        require_smaller(self.size, "size", image_shape)

    def __call__(
        self,
        images: Float[Tensor, "n c h w"],
        labels: Int[Tensor, " n"],
        *,
        generator: np.random.Generator,
    ) -> tuple[Float[Tensor, "n c h w"], Int[Tensor, " n"]]:
        """Return them with a hole each; see `Augmentation`."""
        number, _, height, width = images.shape
        centres = tuple(generator.integers(0, side, size=number) for side in (height, width))
        sides = np.full(number, self.size)
        return images.masked_fill(
            boxes((centres[0], centres[1]), (sides, sides), images), 0
        ), labels
