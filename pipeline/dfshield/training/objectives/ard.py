"""ARD: the teacher's answer to the clean image, under perturbation, at a high temperature."""

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from dfshield.checks import one_of, positive, share
from dfshield.divergence import kl_divergence
from dfshield.training.objectives.base import Objective
from dfshield.training.requirements import require_labels


class ArdObjective(Objective):
    """ARD (Goldblum et al. 2020): ``alpha t^2 KL_t(T(x)||S(x')) + (1 - alpha) CE(S(x), y)``.

    ``KL_t`` is the divergence of the softmax of logits over the temperature t. The adversarial
    images maximise the cross-entropy of S(x') and the artificial labels, from a uniform start in
    the ball; in eval mode, unlike in the authors' code, whose attack moves BatchNorm's buffers. ARD
    supposes a robust teacher, which is not given here.

    Args:
        alpha: share of the robust term, in [0, 1].
        temperature: t.
        reduction: of the divergence: ``mean`` over images and classes, as in the authors' code, or
            ``batchmean``.

    Raises:
        InputError: for an ``alpha`` outside [0, 1], a temperature that is not positive or an
            unknown reduction.
    """

    name = "ard"
    inner_loss = "ce"
    inner_start = "uniform"

    def __init__(
        self,
        *,
        alpha: float | int = 1.0,
        temperature: float | int = 30.0,
        reduction: Literal["mean", "batchmean"] = "mean",
    ) -> None:
        self.alpha = share(alpha, "alpha")
        self.temperature = positive(temperature, "temperature")
        one_of(("mean", "batchmean"), reduction, "reduction")
        self.reduction: Literal["mean", "batchmean"] = reduction

    def terms(
        self,
        *,
        clean: Float[Tensor, "n k"],
        adversarial: Float[Tensor, "n k"],
        teacher: Float[Tensor, "n k"],
        labels: Int[Tensor, " n"],
    ) -> dict[str, Float[Tensor, ""]]:
        """Return both terms; see `Objective`.

        Raises:
            InputError: for a label that is none of the classes.
        """
        require_labels(labels, clean.shape[1])
        return {
            "clean": (1 - self.alpha) * F.cross_entropy(clean, labels),
            "robust": self.alpha
            * kl_divergence(
                teacher, adversarial, temperature=self.temperature, reduction=self.reduction
            ),
        }
