"""The contract of the augmentations."""

from abc import ABC, abstractmethod

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dfshield.families import Variant


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
    inside = []
    for centre, side, size in zip(centres, sides, images.shape[2:], strict=True):
        first = (centre - side // 2)[:, None]
        places = np.arange(size)[None, :]
        inside.append((places >= first) & (places < first + side[:, None]))
    mask = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return torch.from_numpy(mask).to(images.device)
