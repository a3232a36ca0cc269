"""The classes that a model gives to images."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dfshield.attacks import frozen


def classes_of(model: nn.Module, images: Float[Tensor, "n c h w"]) -> Int[Tensor, " n"]:
    """Return the class that a model gives each image in [0, 1] in eval mode; its own is kept."""
    with frozen(model), torch.no_grad():
        classes: Tensor = model(images).argmax(dim=1)
    return classes
