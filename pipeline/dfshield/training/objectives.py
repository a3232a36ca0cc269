"""What the student minimises on a mini-batch and its adversarial version."""

from abc import ABC, abstractmethod
from typing import Literal, NamedTuple, get_args

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from dfshield.errors import InputError

Reduction = Literal["batchmean", "mean"]


def kl_divergence(
    target: Float[Tensor, "n k"],
    prediction: Float[Tensor, "n k"],
    *,
    temperature: float = 1.0,
    reduction: Reduction = "batchmean",
) -> Float[Tensor, ""]:
    """Return ``t^2 KL(softmax(target / t) || softmax(prediction / t))`` of two sets of logits.

    Gradients flow through both arguments. ``batchmean`` divides the sum by the batch size, ``mean``
    by batch size times classes (what PyTorch calls ``mean`` and the authors' code uses).
    """
    target = F.log_softmax(target / temperature, dim=1)
    prediction = F.log_softmax(prediction / temperature, dim=1)
    divergence = F.kl_div(prediction, target, reduction="sum", log_target=True)
    count = target.shape[0] if reduction == "batchmean" else target.numel()
    return divergence * (temperature**2 / count)


class Losses(NamedTuple):
    """The loss of one mini-batch and its (weighted) terms: clean, robust and smoothness."""

    total: Float[Tensor, ""]
    clean: Float[Tensor, ""]
    robust: Float[Tensor, ""]
    smooth: Float[Tensor, ""]


class Objective(ABC):
    """An adversarial-training loss over the logits of one mini-batch."""

    @abstractmethod
    def __call__(
        self,
        *,
        clean: Float[Tensor, "n k"],
        adversarial: Float[Tensor, "n k"],
        teacher: Float[Tensor, "n k"],
        labels: Int[Tensor, " n"],
    ) -> Losses:
        """Return the loss.

        Args:
            clean: student's logits ``S(x)``.
            adversarial: student's logits ``S(x')``.
            teacher: teacher's logits ``T(x)`` of the clean images.
            labels: artificial labels.
        """


class SoftLabelObjective(Objective):
    """Equation 11: ``KL(T(x)||S(x)) + lambda1 KL(T(x)||S(x')) + lambda2 KL(S(x)||S(x'))``.

    The terms stand for clean accuracy, robustness from soft labels, and smoothness; the gradient of
    the last flows through both arguments. No label is used. The first term has the temperature and
    the reduction of the authors' code as options: ``temperature=20, reduction="mean"`` weighs it
    about 0.1 times as much as the equation for 10 classes.

    Raises:
        InputError: for a negative weight, a temperature that is not positive or an unknown
            reduction.
    """

    def __init__(
        self,
        *,
        lambda1: float = 1.0,
        lambda2: float = 1.0,
        temperature: float = 1.0,
        reduction: Reduction = "batchmean",
    ) -> None:
        for name, value in (("lambda1", lambda1), ("lambda2", lambda2)):
            if not 0 <= value < float("inf"):
                raise InputError(f"{name}: {value!r} must be a finite number of at least 0")
        if not 0 < temperature < float("inf"):
            raise InputError(f"temperature: {temperature!r} must be a positive number")
        if reduction not in get_args(Reduction):
            known = ", ".join(get_args(Reduction))
            raise InputError(f"reduction: {reduction!r} is unknown: known are {known}")
        self.lambda1 = lambda1
        self.lambda2 = lambda2
        self.temperature = temperature
        self.reduction: Reduction = reduction

    def __call__(
        self,
        *,
        clean: Float[Tensor, "n k"],
        adversarial: Float[Tensor, "n k"],
        teacher: Float[Tensor, "n k"],
        labels: Int[Tensor, " n"],  # noqa: ARG002
    ) -> Losses:
        """Return equation 11; see the class and `Objective`."""
        fidelity = kl_divergence(
            teacher, clean, temperature=self.temperature, reduction=self.reduction
        )
        robust = self.lambda1 * kl_divergence(teacher, adversarial)
        smooth = self.lambda2 * kl_divergence(clean, adversarial)
        return Losses(fidelity + robust + smooth, fidelity, robust, smooth)


class TradesObjective(Objective):
    """TRADES (Zhang et al. 2019) on artificial labels: ``CE(S(x), y) + beta KL(S(x)||S(x'))``.

    The paper's ablation (table 8) starts from it. ``beta`` is 6 in the authors' CIFAR-10 recipe.

    Raises:
        InputError: for a negative ``beta``.
    """

    def __init__(self, *, beta: float = 6.0) -> None:
        if not 0 <= beta < float("inf"):
            raise InputError(f"beta: {beta!r} must be a finite number of at least 0")
        self.beta = beta

    def __call__(
        self,
        *,
        clean: Float[Tensor, "n k"],
        adversarial: Float[Tensor, "n k"],
        teacher: Float[Tensor, "n k"],  # noqa: ARG002
        labels: Int[Tensor, " n"],
    ) -> Losses:
        """Return the TRADES loss; see the class and `Objective`.

        Raises:
            InputError: for a label that is none of the classes.
        """
        if int(labels.max()) >= clean.shape[1] or int(labels.min()) < 0:
            raise InputError(f"labels: must lie in 0..{clean.shape[1] - 1}, the student's classes")
        fidelity = F.cross_entropy(clean, labels)
        smooth = self.beta * kl_divergence(clean, adversarial)
        return Losses(fidelity + smooth, fidelity, smooth.new_zeros(()), smooth)
