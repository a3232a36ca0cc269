"""Passes of a model whose weights stay: BatchNorm folded, compiled, always of one size."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfshield.attacks import frozen, in_float32
from dfshield.classifiers import Classifier, batchnorm_layers
from dfshield.engine.acceleration import Acceleration, in_one_layout, require_compiled
from dfshield.engine.folding import fold_batchnorm
from dfshield.engine.fused_batchnorm import fuse, fusible

IMAGES_PER_PASS = 8
"""Passes of 32 are a tenth faster, and are filled up with more where few images are left."""


class FrozenPasses(nn.Module):
    """A copy of a model, computed faster; for a model that is attacked and does not change.

    It takes any number of images and computes them in passes of one size, of which the last is
    filled up with black images: when images leave a batch, those that are left move up, and what
    was compiled still fits. The classifiers in it have their BatchNorm folded
    (`dfshield.engine.folding.fold_batchnorm`); layers that cannot be folded are `FusedBatchNorm`.

    Args:
        model: takes images in [0, 1]; it is not touched. What happens to it later does not show.
        image_shape: (c, h, w).
        acceleration: what is allowed.
        images_per_pass: size of a pass.

    Raises:
        CompilationError: if its passes are to be compiled and cannot be.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        image_shape: tuple[int, ...],
        acceleration: Acceleration,
        images_per_pass: int = IMAGES_PER_PASS,
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
        self._images_per_pass = images_per_pass
        self._pass = acceleration.compile(self._logits)
        if acceleration.compiled:
            device = next(model.parameters()).device
            images = torch.zeros(images_per_pass, *image_shape, device=device)
            require_compiled(lambda: self._try(images), "this classifier", device)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Return the logits of images in [0, 1]."""
        lacking = -len(images) % self._images_per_pass
        whole = torch.cat([images, images.new_zeros(lacking, *images.shape[1:])])
        logits = [
            self._pass(in_one_layout(part)) for part in torch.split(whole, self._images_per_pass)
        ]
        return torch.cat(logits)[: len(images)]

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
