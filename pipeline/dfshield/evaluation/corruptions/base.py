"""The contract of the common corruptions: images in, images as cameras and files spoil them."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, TypeAlias, final

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from dfshield.checks import at_least
from dfshield.errors import InputError
from dfshield.families import Variant
from dfshield.pixels import require_images
from dfshield.seeds import whole_seed

SEVERITIES = (1, 2, 3, 4, 5)
SIDE = 32
"""Of the images that the published lengths in pixels are meant for."""

Image: TypeAlias = npt.NDArray[np.float64]
"""(h, w, c), in [0, 1]."""


class Corruption(Variant, ABC):
    """A common corruption (Hendrycks and Dietterich 2019): ``corruption(images, severity=3)``.

    Names and settings are those of CIFAR-10-C, which RobustBench uses too. Lengths in pixels grow
    with the shorter side of the images, from 32; what is far below a pixel then, such as the
    defocus of 8x8 images, does nothing. Results have 256 levels, as stored images have.

    Attributes:
        settings: what a severity means, from 1 to 5.
    """

    settings: ClassVar[tuple[Any, ...]]

    @final
    def __call__(
        self, images: Float[Tensor, "n c h w"], *, severity: int, seed: int = 0, first: int = 0
    ) -> Float[Tensor, "n c h w"]:
        """Return the images corrupted: float32, in [0, 1], on their device.

        Args:
            images: in [0, 1], grey or RGB, of at least 4 pixels a side.
            severity: from 1 to 5.
            seed: of all draws. An image's depend on it and the image's number alone.
            first: the number of the first image.

        Raises:
            InputError: for other images, or another severity.
        """
        if severity not in SEVERITIES:
            raise InputError(f"severity: {severity!r} must be from 1 to 5")
        require_images(images)
        if images.shape[1] not in (1, 3) or min(images.shape[2:]) < 4:
            raise InputError(
                f"images: of shape {tuple(images.shape[1:])}; corruptions are defined for grey or "
                "RGB images of at least 4x4 pixels"
            )
        whole_seed(seed)
        at_least(0, first, "first")
        c, changed = self.settings[severity - 1], []
        for number, image in enumerate(images.detach().cpu().double().numpy(), start=first):
            draw = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))
            found = self._changed(np.moveaxis(image, 0, 2).copy(), c, draw)
            changed.append(np.moveaxis(np.floor(255 * found.clip(0, 1) + 1e-6) / 255, 2, 0))
        stacked = np.stack(changed) if changed else np.zeros(tuple(images.shape))
        return torch.from_numpy(stacked).float().to(images.device)

    @abstractmethod
    def _changed(self, x: Image, c: Any, draw: np.random.Generator) -> Image:
        """Return one image corrupted; values outside [0, 1] are clipped.

        Args:
            x: the image, its own copy.
            c: what the severity means.
            draw: of this image.
        """


def scale(x: Image) -> float:
    """Return how much larger an image is than those that lengths are published for."""
    return float(min(x.shape[:2])) / SIDE


def eight_bit(x: Image) -> npt.NDArray[np.uint8]:
    """Return an image as stored: (h, w) if it is grey, else (h, w, 3)."""
    stored: npt.NDArray[np.uint8] = np.round(255 * x.clip(0, 1)).astype(np.uint8)
    return stored[:, :, 0] if stored.shape[2] == 1 else stored


def from_eight_bit(stored: npt.NDArray[np.uint8]) -> Image:
    """Return a stored image in [0, 1]."""
    found: Image = np.atleast_3d(stored) / 255.0
    return found
