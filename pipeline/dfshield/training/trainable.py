"""Whether a model of whatever origin can be trained on mini-batches of given sizes."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfshield.classifiers import float32_logits
from dfshield.errors import InputError, one_line
from dfshield.seeds import torch_generators


def require_trainable(model: nn.Module, images: Float[Tensor, "n c h w"], *, name: str) -> None:
    """Check that a pass in train mode works on a mini-batch, and brings weights a gradient.

    Args:
        model: returns logits; a copy is tried.
        images: the mini-batch, in [0, 1].
        name: the model's, for messages.

    Raises:
        InputError: if the pass fails, with what it failed with, or no weight gets a gradient.
    """
    count = f"{len(images)} images" if len(images) > 1 else "one image"
    trial = copy.deepcopy(model).requires_grad_(True).train()
    try:
        with torch.enable_grad(), torch_generators(0, images.device):
            logits = float32_logits(trial, images)
            if logits.requires_grad:
                torch.autograd.backward(logits.sum())
    except InputError as error:
        raise InputError(f"{name} in train mode: {error}") from None
    except Exception as error:
        raise InputError(
            f"{name} fails in train mode on {count}: {type(error).__name__}: {one_line(error)}"
        ) from error
    if all(parameter.grad is None for parameter in trial.parameters()):
        raise InputError(
            f"{name} in train mode: its logits carry no gradient with respect to its weights, so "
            "it cannot be trained"
        )
