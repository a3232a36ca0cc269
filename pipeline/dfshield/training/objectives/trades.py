"""TRADES on artificial labels: the paper's point of departure."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from dfshield.checks import non_negative
from dfshield.divergence import kl_divergence
from dfshield.training.objectives.base import Objective
from dfshield.training.requirements import require_labels


class TradesObjective(Objective):
    """TRADES (Zhang et al. 2019) on artificial labels: ``CE(S(x), y) + beta KL(S(x)||S(x'))``.

    The paper's ablation (table 8) starts from it. ``beta`` is 6 in the authors' CIFAR-10 recipe.

    Args:
        beta: weight of the smoothness term.

    Raises:
        InputError: for a negative ``beta``.
    """

    name = "trades"

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
        return {
            "clean": F.cross_entropy(clean, labels),
            "smooth": self.beta * kl_divergence(clean, adversarial),
        }
