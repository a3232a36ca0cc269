"""APGD of pyautoattack, with passes of those images alone that still stand."""

import torch
from jaxtyping import Float, Int
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from torch import Tensor, nn

DECIDED = 1e-3
"""What a wrong logit must lead by, as a share of the largest, for an image to leave: more than
rounding, so that it is as wrong in another batch and in a pass that is computed otherwise."""


class _AllBrokenError(Exception):
    """No image stands: the iterations that are left would change nothing."""


class _Standing(nn.Module):
    """A model through which the images of a batch go until it has got them wrong.

    After that their logits stay as they were and carry no gradient.
    """

    logits: Float[Tensor, "n k"]
    broken: Float[Tensor, "n c h w"]

    def __init__(self, model: nn.Module, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"]) -> None:
        super().__init__()
        self._model, self._y = model, y
        self.stands = torch.ones_like(y, dtype=torch.bool)
        self.broken = x.clone()

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        left = self.stands.nonzero().flatten()
        if len(left) == 0:
            raise _AllBrokenError
        if len(left) == len(images):
            logits: Tensor = self._model(images)
        else:
            logits = self.logits.index_copy(0, left, self._model(images[left]))
        self.logits = logits.detach()
        self._let_go(images.detach())
        return logits

    def _let_go(self, images: Tensor) -> None:
        place = self._y[:, None]
        own = self.logits.gather(1, place).squeeze(1)
        others = self.logits.scatter(1, place, -torch.inf).amax(1)
        gone = (others - own > DECIDED * self.logits.abs().amax(1)) & self.stands
        self.broken[gone] = images[gone]
        self.stands &= ~gone


class LeavingAPGD(APGDAttack):  # type: ignore[misc]
    """APGD on the cross-entropy or the DLR loss; verdicts are those of pyautoattack's own.

    Images that are broken leave the batch. What comes back of one is the first wrong one that was
    clearly so, where theirs is the last. A model that draws random numbers (``eot_iter`` above 1)
    goes through all.
    """

    model: nn.Module

    def attack_single_run(
        self, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"], x_init: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return images of the largest loss, which stand, losses, and the adversarial images."""
        single_run = super().attack_single_run
        found: tuple[Tensor, Tensor, Tensor, Tensor]
        if self.eot_iter > 1:
            found = single_run(x, y, x_init)
            return found
        whole, standing = self.model, _Standing(self.model, x, y)
        self.model = standing
        try:
            best, stands, loss, adversarial = single_run(x, y, x_init)
        except _AllBrokenError:
            best = adversarial = x
            stands, loss = standing.stands, torch.zeros_like(x[:, 0, 0, 0])
        finally:
            self.model = whole
        kept = standing.stands.view(-1, 1, 1, 1)
        images = torch.where(kept, adversarial, standing.broken)
        return best, stands & standing.stands, loss, images


class LeavingTargetedAPGD(LeavingAPGD, APGDAttack_targeted):  # type: ignore[misc]
    """APGD on the targeted DLR loss."""
