"""The paper's objective: soft labels for clean accuracy and robustness, and smoothness."""

from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

from dfshield.checks import non_negative, one_of, positive
from dfshield.divergence import kl_divergence
from dfshield.training.objectives.base import Objective


class SoftLabelObjective(Objective):
    """Equation 11: ``KL(T(x)||S(x)) + lambda1 KL(T(x)||S(x')) + lambda2 KL(S(x)||S(x'))``.

    The terms stand for clean accuracy, robustness from soft labels, and smoothness; the gradient of
    the last flows through both arguments. No label is used. The first term has the temperature and
    the reduction of the authors' code as options: ``temperature=20, reduction="mean"`` weighs it
    about 0.1 times as much as the equation for 10 classes.

    Args:
        lambda1: weight of the robust term.
        lambda2: weight of the smoothness term.
        temperature: of the clean term.
        reduction: of the clean term: ``batchmean``, or ``mean`` over images and classes.

    Raises:
        InputError: for a negative weight, a temperature that is not positive or an unknown
            reduction.
    """

    name = "soft-label"

    def __init__(
        self,
        *,
        lambda1: float | int = 1.0,
        lambda2: float | int = 1.0,
        temperature: float | int = 1.0,
        reduction: Literal["batchmean", "mean"] = "batchmean",
    ) -> None:
        self.lambda1 = non_negative(lambda1, "lambda1")
        self.lambda2 = non_negative(lambda2, "lambda2")
        self.temperature = positive(temperature, "temperature")
        one_of(("batchmean", "mean"), reduction, "reduction")
        self.reduction: Literal["batchmean", "mean"] = reduction

    def terms(
        self,
        *,
        clean: Float[Tensor, "n k"],
        adversarial: Float[Tensor, "n k"],
        teacher: Float[Tensor, "n k"],
        labels: Int[Tensor, " n"],  # noqa: ARG002
    ) -> dict[str, Float[Tensor, ""]]:
        """Return the three terms of equation 11; see `Objective`."""
        return {
            "clean": kl_divergence(
                teacher, clean, temperature=self.temperature, reduction=self.reduction
            ),
            "robust": self.lambda1 * kl_divergence(teacher, adversarial),
            "smooth": self.lambda2 * kl_divergence(clean, adversarial),
        }
