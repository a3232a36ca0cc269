"""Passes of a model whose weights stay: BatchNorm folded, compiled, always of the same sizes."""

import copy
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfshield.attacks import frozen, in_float32
from dfshield.classifiers import Classifier, batchnorm_layers
from dfshield.engine.acceleration import Acceleration, in_one_layout, require_compiled
from dfshield.engine.folding import fold_batchnorm
from dfshield.engine.fused_batchnorm import fuse, fusible

SIZES = (32, 8)
"""Images in a pass. Those of 32 are a tenth faster; of 8, fewer are made up where few are left."""


class FrozenPasses(nn.Module):
    """A copy of a model, computed faster; for a model that is attacked and does not change.

    It takes any number of images and computes them in passes of a few sizes, the large ones first,
    the last one filled up with black images: when images leave a batch, those that are left move
    up, and what was compiled still fits. The classifiers in it have their BatchNorm folded
    (`dfshield.engine.folding.fold_batchnorm`); layers that cannot be folded are `FusedBatchNorm`.

    Args:
        model: takes images in [0, 1]; it is not touched. What happens to it later does not show.
        image_shape: (c, h, w).
        acceleration: what is allowed.
        sizes: how many images a pass may have, falling.

    Raises:
        CompilationError: if its passes are to be compiled and cannot be.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        image_shape: tuple[int, ...],
        acceleration: Acceleration,
        sizes: Sequence[int] = SIZES,
    ) -> None:
        super().__init__()
        twin = copy.deepcopy(model).eval().requires_grad_(False)
        for module in list(twin.modules()):
            if isinstance(module, Classifier):
                fold_batchnorm(module)
        for _, layer in batchnorm_layers(twin):
            if fusible(layer):
                fuse(layer).hold()
        self._twin = in_float32(twin)
        self._acceleration = acceleration
        self._sizes = sizes
        self._pass = acceleration.compile(self._logits)
        if acceleration.compiled:
            device = next(model.parameters()).device
            images = torch.zeros(sum(sizes), *image_shape, device=device)
            require_compiled(lambda: self._try(images), "this classifier", device)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Return the logits of images in [0, 1]."""
        sizes = self._cut(len(images))
        lacking = sum(sizes) - len(images)
        whole = torch.cat([images, images.new_zeros(lacking, *images.shape[1:])])
        logits = [self._pass(in_one_layout(part)) for part in torch.split(whole, sizes)]
        return torch.cat(logits)[: len(images)]

    def _cut(self, count: int) -> list[int]:
        """Return the sizes of the passes for so many images."""
        cut: list[int] = []
        for size in self._sizes:
            cut += [size] * (count // size)
            count %= size
        return cut + [self._sizes[-1]] * (count > 0)

    def _logits(self, images: Tensor) -> Tensor:
        with self._acceleration.autocast(images.device):
            logits: Tensor = self._twin(images)
        return logits.float()

    def _try(self, images: Tensor) -> None:
        with torch.no_grad():
            self(images)
        with frozen(self):
            attacked = images.clone().requires_grad_()
            torch.autograd.grad(self(attacked).sum(), [attacked])
