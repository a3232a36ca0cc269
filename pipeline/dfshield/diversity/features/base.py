"""The contract of the feature spaces: images go in, one row of numbers an image comes out."""

from abc import ABC, abstractmethod
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from dfshield.errors import InputError
from dfshield.families import Variant
from dfshield.pixels import require_images


class FeatureSpace(Variant, ABC):
    """A space in which images are compared.

    A subclass writes :meth:`compute` and keeps its options as attributes of the same names.
    """

    @final
    def __call__(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Return the features of a batch of images in [0, 1], in float32, without gradients.

        Raises:
            InputError: for what are no images, or of a shape that the space does not take.
        """
        require_images(images)
        with torch.no_grad():
            features = self.compute(images)
        if not bool(features.isfinite().all()):
            raise InputError(f"features: {self.name} gives NaN or infinite values")
        return features.float()

    @abstractmethod
    def compute(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Return the features of these images."""
