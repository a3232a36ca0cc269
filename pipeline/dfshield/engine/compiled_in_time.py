"""A model under a long attack: compiled once it has shown that the attack is long."""

import math
import warnings
from collections import Counter
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfshield.attacks import frozen
from dfshield.engine.accelerated_model import FastTwin
from dfshield.engine.acceleration import (
    Acceleration,
    CompilationError,
    in_one_layout,
    require_compiled,
)
from dfshield.errors import DfshieldWarning

_TRIED = 32
"""Images of the pass that is compiled for: always as many, since the code may depend on it."""


class CompiledInTime(FastTwin):
    """A model whose passes are compiled, for any number of images, when there have been many.

    How long an attack goes on that leaves broken images alone is not known before. As who buys when
    the rent has come near the price, it is computed plainly at first; passes that carry a gradient
    and those that do not are counted, and compiled, apart. A pass of a single image is never
    compiled. What cannot be compiled is computed plainly to the end, with a warning.

    Attributes:
        refused: whether something could not be compiled.

    Args:
        model: takes images in [0, 1]; its weights do not change any more, and it is not touched.
            Its BatchNorm layers must be `fusible`.
        image_shape: (c, h, w).
        acceleration: what is allowed.
        after: images that are computed plainly, counted from `begin`: of passes with a gradient
            (True) and of those without (False).
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        image_shape: tuple[int, ...],
        acceleration: Acceleration,
        after: Mapping[bool, int],
    ) -> None:
        super().__init__(model, acceleration)
        self._hold(True)
        self._model, self._shape = model, image_shape
        self._after: dict[bool, float] = dict(after)
        self._seen = Counter[bool]()
        self._compiled = acceleration.compile(self._logits, of_any_size=True)
        self._ready: set[bool] = set()
        self.refused = False

    def begin(self) -> None:
        """Count from 0: what follows depends on no attack of before."""
        self._seen.clear()

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Return the logits of images in [0, 1], in eval mode."""
        graded = torch.is_grad_enabled() and images.requires_grad
        logits: Tensor
        if len(images) > 1 and self._seen[graded] >= self._after[graded] and self._compiles(graded):
            logits = self._compiled(in_one_layout(images))
            return logits
        self._seen[graded] += len(images)
        logits = self._model(images)
        return logits

    def _compiles(self, graded: bool) -> bool:
        if graded not in self._ready:
            try:
                require_compiled(lambda: self._try(graded), "this classifier", self._device)
            except CompilationError as error:
                self._after[graded], self.refused = math.inf, True
                warnings.warn(f"{error}; it is attacked as it is", DfshieldWarning, stacklevel=3)
                return False
            self._ready.add(graded)
        return True

    def _try(self, graded: bool) -> None:
        images = torch.zeros(_TRIED, *self._shape, device=self._device, requires_grad=graded)
        with frozen(self), torch.set_grad_enabled(graded):
            logits = self._compiled(in_one_layout(images))
            if graded:
                torch.autograd.grad(logits.sum(), [images])
