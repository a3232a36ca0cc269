"""What attacks do with models: ask them, name them."""

import copy
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfshield.classifiers import Classifier, float32_logits


class InFloat32(nn.Module):
    """A model of any precision as attacks take it: float32 images to float32 logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Return the model's logits in float32."""
        return float32_logits(self.model, x)


def in_float32(model: nn.Module) -> nn.Module:
    """Return the model, or what stands in for one that is not known to give float32."""
    return model if isinstance(model, Classifier | InFloat32) else InFloat32(model)


def logits_of(model: nn.Module, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
    """Return the logits without a gradient."""
    with torch.no_grad():
        logits: Tensor = model(x)
    return logits


def identity_of(model: nn.Module) -> str:
    """Return what stands for a model in a description: its fingerprint, or else its class."""
    fingerprint = getattr(model, "fingerprint", None)
    if callable(fingerprint):
        return str(fingerprint())
    return f"{type(model).__module__}.{type(model).__qualname__}"


def on_device(model: nn.Module, device: torch.device) -> nn.Module:
    """Return the model, or a copy of it on ``device`` where its tensors lie elsewhere."""
    for tensor in chain(model.parameters(), model.buffers()):
        return model if tensor.device == device else copy.deepcopy(model).to(device)
    return model
