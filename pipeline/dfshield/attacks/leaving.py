"""APGD of pyautoattack, in which images that are broken leave the batch."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dfshield.attacks.losses import margin

CLEARLY = 1e-3
"""Share of its largest logit by which an image is wrong beyond rounding, as in
:data:`dfshield.classifiers.logits.SAME_LOGITS`."""


def leave_when_broken(apgd: Any) -> None:
    """Let images that are clearly wrong take part in no further pass of a run of APGD.

    As it is, APGD does all its iterations with all images, and gives back the last iterate of each
    that was wrong. Here that is the first one that is wrong by more than `CLEARLY`. No other image
    sees a difference: iterates depend on an image's own gradients alone, and random starts are
    drawn for all before the first pass. So the verdicts are the same, and images that are broken
    differ.

    Args:
        apgd: a ``pyautoattack.autopgd_base.APGDAttack`` for a model that draws no random numbers.
    """
    run, model = apgd.attack_single_run, apgd.model

    def attack_single_run(
        x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"], x_init: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        batch = _Batch(model, x, y)
        apgd.model = batch
        try:
            best, standing, loss, found = run(x, y, x_init)
        except _AllBrokenError:
            nothing = torch.zeros_like(y)
            return x, nothing, nothing, batch.found
        finally:
            apgd.model = model
        found[batch.gone] = batch.found[batch.gone]
        return best, standing, loss, found

    apgd.attack_single_run = attack_single_run


class _AllBrokenError(Exception):
    """No image is left to attack."""


class _Batch:
    """The model, as one run of APGD asks it: of the images that have left it knows the answer.

    Attributes:
        gone: (n,), which images have left.
        found: the iterates that they left with; of others, the images.
    """

    def __init__(self, model: nn.Module, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"]) -> None:
        self._model, self._y = model, y
        self._logits: Tensor | None = None
        self.gone = torch.zeros_like(y, dtype=torch.bool)
        self.found = x.clone()

    def __call__(self, x_adv: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        left = (~self.gone).nonzero().flatten()
        if not len(left):
            raise _AllBrokenError
        if self._logits is None:
            logits: Tensor = self._model(x_adv)
        else:
            logits = self._logits.index_copy(0, left, self._model(x_adv[left]))
        self._logits = logits.detach()
        certain = CLEARLY * self._logits.abs().amax(1)
        broken = (margin(self._logits, self._y) > certain) & ~self.gone
        self.found[broken] = x_adv.detach()[broken]
        self.gone |= broken
        return logits
