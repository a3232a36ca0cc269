"""The contract of the augmentations."""

from abc import ABC, abstractmethod

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dfshield.errors import InputError
from dfshield.families import Variant
from dfshield.pixels import box_masks


class Augmentation(Variant, ABC):
    """A random change of the images of a mini-batch, drawn anew whenever they are trained on.

    A subclass writes :meth:`__call__`, draws from the generator it is given alone, and keeps its
    options as attributes of the same names.
    """

    @abstractmethod
    def __call__(
        self,
        images: Float[Tensor, "n c h w"],
        labels: Int[Tensor, " n"],
        *,
        generator: np.random.Generator,
    ) -> tuple[Float[Tensor, "n c h w"], Int[Tensor, " n"]]:
        """Return the images, which stay in [0, 1], and the labels of what they show now.

        What is given is not changed.

        Args:
            images: in [0, 1].
            labels: their artificial labels.
            generator: of all draws.
        """

    def require_fits(self, image_shape: tuple[int, ...]) -> None:
        """Check that something is left of images of a shape (c, h, w).

        Raises:
            InputError: if not, naming the option.
        """


def boxes(
    centres: tuple[np.ndarray, np.ndarray],
    sides: tuple[np.ndarray, np.ndarray],
    images: Tensor,
) -> Bool[Tensor, "n 1 h w"]:
    """Return a mask of one box in every image, cut off at its borders.

    Args:
        centres: (row, column) of each box, whole pixels; of an even side the lower one.
        sides: (height, width) of each, likewise.
        images: (n, c, h, w), whose sizes and device are taken.
    """
    spans = [
        (centre - side // 2, centre - side // 2 + side)
        for centre, side in zip(centres, sides, strict=True)
    ]
    height, width = images.shape[2:]
    return box_masks(spans[0], spans[1], (height, width)).to(images.device)


def require_smaller(value: int, key: str, image_shape: tuple[int, ...]) -> None:
    """Check that an option, in pixels, is smaller than both sides of images (c, h, w).

    Raises:
        InputError: naming the option otherwise.
    """
    _, height, width = image_shape
    if value >= min(height, width):
        raise InputError(f"{key}: {value} leaves nothing of {height}x{width} images")
