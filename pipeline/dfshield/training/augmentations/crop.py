"""Crops of images that zeros have been put around."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from dfshield.checks import at_least
from dfshield.training.augmentations.base import Augmentation, require_smaller


class Crop(Augmentation):
    """Crops at a random place, of the image's size, after ``padding`` zeros on every side.

    Args:
        padding: pixels by which an image is shifted at most, in both directions.

    Raises:
        InputError: for a padding below 1.
    """

    name = "crop"

    def __init__(self, *, padding: int = 4) -> None:
        self.padding = at_least(1, padding, "padding")

    def require_fits(self, image_shape: tuple[int, ...]) -> None:
        """Check that the largest shift leaves some pixels; see `Augmentation`."""
        require_smaller(self.padding, "padding", image_shape)

    def __call__(
        self,
        images: Float[Tensor, "n c h w"],
        labels: Int[Tensor, " n"],
        *,
        generator: np.random.Generator,
    ) -> tuple[Float[Tensor, "n c h w"], Int[Tensor, " n"]]:
        """Return them shifted; see `Augmentation`."""
        number, _, height, width = images.shape
        corners = generator.integers(0, 2 * self.padding + 1, size=(2, number))
        down, right = torch.from_numpy(corners).to(images.device)
        rows = down[:, None, None] + torch.arange(height, device=images.device)[None, :, None]
        columns = right[:, None, None] + torch.arange(width, device=images.device)[None, None, :]
        padded = F.pad(images, (self.padding,) * 4)
        which = torch.arange(number, device=images.device)[:, None, None]
        return padded.movedim(1, 3)[which, rows, columns].movedim(3, 1), labels
