"""MART on artificial labels: smoothness counts more where the student is wrong."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from dfshield.checks import non_negative
from dfshield.divergence import kl_divergence
from dfshield.training.objectives.base import Objective
from dfshield.training.requirements import require_labels

_RIVAL_CEILING = 1.0001 + 1e-12
"""Keeps the logarithm of the largest other class finite (the authors' code)."""
_ERROR_CEILING = 1.0000001
"""Keeps the weight of a clean image that is surely right above 0 (likewise)."""


class MartObjective(Objective):
    """MART (Wang et al. 2020) on artificial labels: ``BCE(x', y) + beta KL weighted by errors``.

    With ``p = softmax(S(x))`` and ``p' = softmax(S(x'))``, on average over the images::

        -log p'_y - log(1.0001 - max_{k != y} p'_k)  +  beta KL(p || p') (1 - p_y)

    The gradient flows through the weight ``1 - p_y`` too. The adversarial images maximise the
    cross-entropy of S(x'), from ``x + 0.001 N(0, I)``.

    Args:
        beta: weight of the smoothness term; 6 in the authors' code, 5 in their paper.

    Raises:
        InputError: for a negative ``beta``.
    """

    name = "mart"
    inner_loss = "ce"

    def __init__(self, *, beta: float | int = 6.0) -> None:
        self.beta = non_negative(beta, "beta")

    def terms(
        self,
        *,
        clean: Float[Tensor, "n k"],
        adversarial: Float[Tensor, "n k"],
        teacher: Float[Tensor, "n k"],  # noqa: ARG002
        labels: Int[Tensor, " n"],
    ) -> dict[str, Float[Tensor, ""]]:
        """Return both terms; see `Objective`.

        Raises:
            InputError: for a label that is none of the classes.
        """
        require_labels(labels, clean.shape[1])
        y = labels.view(-1, 1)
        others = adversarial.softmax(dim=1).scatter(1, y, -1.0)
        rival = others.max(dim=1).values
        boosted = F.cross_entropy(adversarial, labels) - (_RIVAL_CEILING - rival).log().mean()
        error = _ERROR_CEILING - clean.softmax(dim=1).gather(1, y).view(-1)
        divergence = kl_divergence(clean, adversarial, reduction="none")
        return {"robust": boosted, "smooth": self.beta * (divergence * error).mean()}
