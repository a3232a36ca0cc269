"""RSLAD: the teacher's soft labels in place of every hard one, in the attack as well."""

from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

from dfshield.checks import one_of, positive, share
from dfshield.divergence import kl_divergence
from dfshield.training.objectives.base import Objective


class RsladObjective(Objective):
    """RSLAD (Zi et al. 2021): ``scale (alpha KL(T(x)||S(x')) + (1 - alpha) KL(T(x)||S(x)))``.

    The adversarial images maximise ``KL(T(x)||S(x'))``, from ``x + 0.001 N(0, I)``. No label is
    used. RSLAD supposes a robust teacher, which is not given here. With a temperature t the
    divergences are ``t^2 KL_t``, of the softmax of logits over t.

    Args:
        alpha: share of the robust term, in [0, 1].
        scale: of both terms; 10 in the authors' recipe of CIFAR-100.
        reduction: of the divergences: ``mean`` over images and classes, as in the authors' code, or
            ``batchmean``.
        temperature: t.

    Raises:
        InputError: for an ``alpha`` outside [0, 1], a scale or temperature that is not positive, or
            an unknown reduction.
    """

    name = "rslad"
    inner_loss = "teacher-kl"

    def __init__(
        self,
        *,
        alpha: float | int = 5 / 6,
        scale: float | int = 1.0,
        reduction: Literal["mean", "batchmean"] = "mean",
        temperature: float | int = 1.0,
    ) -> None:
        self.alpha = share(alpha, "alpha")
        self.scale = positive(scale, "scale")
        one_of(("mean", "batchmean"), reduction, "reduction")
        self.reduction: Literal["mean", "batchmean"] = reduction
        self.temperature = positive(temperature, "temperature")

    def terms(
        self,
        *,
        clean: Float[Tensor, "n k"],
        adversarial: Float[Tensor, "n k"],
        teacher: Float[Tensor, "n k"],
        labels: Int[Tensor, " n"],  # noqa: ARG002
    ) -> dict[str, Float[Tensor, ""]]:
        """Return both terms; see `Objective`."""
        natural, robust = (
            kl_divergence(teacher, logits, temperature=self.temperature, reduction=self.reduction)
            for logits in (clean, adversarial)
        )
        return {
            "clean": self.scale * (1 - self.alpha) * natural,
            "robust": self.scale * self.alpha * robust,
        }
