"""Penultimate features of a classifier."""

from jaxtyping import Float
from torch import Tensor, nn

from dfshield.attacks.penultimate import feature_map, find_head
from dfshield.classifiers import frozen
from dfshield.diversity.features.base import FeatureSpace


class TeacherFeatures(FeatureSpace):
    """What goes into the teacher's last layer, the one that makes its logits.

    Args:
        model: the classifier, images in [0, 1] to logits; used in eval mode and left as it was.
        layer: dotted name of the layer whose input is taken; None: the last linear or
            convolutional layer with one channel a class.

    Raises:
        InputError: when images are given, if no such layer is found.
    """

    name = "teacher"

    def __init__(self, *, model: nn.Module, layer: str | None = None) -> None:
        self.model, self.layer = model, layer

    def compute(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Return the flattened input of the layer."""
        with frozen(self.model):
            head = find_head(self.model, images[:1], self.layer)
            return feature_map(self.model, head)(images)
