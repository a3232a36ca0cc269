"""The images themselves as features."""

from jaxtyping import Float
from torch import Tensor

from dfshield.diversity.features.base import FeatureSpace


class Pixels(FeatureSpace):
    """The pixels themselves, in [0, 1]: d = c h w."""

    name = "pixels"

    def compute(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Return the flattened images."""
        return images.flatten(1)
