"""The fast path of a classifier's eval-mode passes: compiled, in lower precision, channels last."""

import copy
import warnings
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfshield.attacks import frozen, in_float32
from dfshield.classifiers import batchnorm_layers
from dfshield.engine.acceleration import Acceleration, in_one_layout, require_compiled
from dfshield.engine.fused_batchnorm import fuse, fusible


class FastTwin(nn.Module):
    """A copy of a model's modules that computes faster, with the model's own weights and buffers.

    Args:
        model: takes images in [0, 1]; it is not touched. Its BatchNorm layers must be `fusible`.
        acceleration: what is allowed.
    """

    def __init__(self, model: nn.Module, acceleration: Acceleration) -> None:
        super().__init__()
        shared = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
        self._twin = in_float32(copy.deepcopy(model, shared))
        self._layers = [fuse(layer) for _, layer in batchnorm_layers(self._twin)]
        self._acceleration = acceleration
        self._device = next(model.parameters()).device

    def _hold(self, held: bool) -> None:
        for layer in self._layers:
            layer.hold(held)

    def _logits(self, images: Tensor) -> Tensor:
        with self._acceleration.autocast(self._device):
            logits: Tensor = self._twin(images)
        return logits.float()


class AcceleratedModel(FastTwin):
    """A model whose eval-mode passes are computed faster; weights and buffers are the model's own.

    It is called as the model is, and computes by the weights that it had when it was put into eval
    mode. Batches of ``full_size`` images are compiled, for fixed shapes, and so are ``together`` of
    them in one. Of another number of whole batches each is computed alone; others, as a short last
    one, by the same code without being compiled.

    Args:
        model: takes images in [0, 1]; it is not touched. Its BatchNorm layers must be `fusible`.
        image_shape: (c, h, w).
        full_size: images in a batch that is worth compiling for.
        together: how many such batches often share a pass.
        acceleration: what is allowed.

    Raises:
        CompilationError: if its passes are to be compiled and cannot be.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        image_shape: tuple[int, ...],
        full_size: int,
        acceleration: Acceleration,
        together: int = 1,
    ) -> None:
        super().__init__(model, acceleration)
        self._full_size = full_size
        self._whole = {full_size, together * full_size}
        self._hold(not model.training)
        self._eval_pass = acceleration.compile(self._logits)
        if acceleration.compiled:
            require_compiled(lambda: self._try_eval(image_shape), "this classifier", self._device)

    def train(self, mode: bool = True) -> "AcceleratedModel":
        """Change the mode; in eval mode, weights and buffers count as they are now."""
        super().train(mode)
        self._hold(not mode)
        return self

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Return the logits of images in [0, 1], in eval mode."""
        logits: Tensor
        if len(images) in self._whole:
            logits = self._eval_pass(in_one_layout(images))
        elif len(images) and len(images) % self._full_size == 0:
            logits = torch.cat([self(batch) for batch in torch.split(images, self._full_size)])
        else:
            logits = self._logits(in_one_layout(images))
        return logits

    def _try_eval(self, image_shape: tuple[int, ...]) -> None:
        with frozen(self):
            for size in sorted(self._whole):
                images = torch.zeros(size, *image_shape, device=self._device, requires_grad=True)
                torch.autograd.grad(self(images).sum(), [images])


def accelerable(model: nn.Module, acceleration: Acceleration, *, otherwise: str) -> bool:
    """Return whether a model's passes can, and may, be computed faster.

    Args:
        model: what is to be computed.
        acceleration: what is allowed; nothing, maybe.
        otherwise: what becomes of a model with a BatchNorm layer of a class with a forward pass of
            its own, for the warning.
    """
    if acceleration.plain:
        return False
    for name, layer in batchnorm_layers(model):
        if not fusible(layer):
            warnings.warn(
                f"{name} is a {type(layer).__name__}, which normalises in a way of its own: "
                f"{otherwise}",
                stacklevel=2,
            )
            return False
    return True
