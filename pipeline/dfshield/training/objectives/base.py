"""The contract of the training objectives: what the student minimises on a mini-batch."""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from dfshield.families import Variant
from dfshield.training.inner_maximization import InnerLoss, Start


class Losses(NamedTuple):
    """The loss of one mini-batch.

    Attributes:
        total: what is minimised.
        terms: its weighted terms by name, which add up to it.
    """

    total: Float[Tensor, ""]
    terms: dict[str, Float[Tensor, ""]]


class Objective(Variant, ABC):
    """An adversarial-training loss over the logits of one mini-batch.

    A subclass writes :meth:`terms`, and keeps its options as attributes of the same names.

    Attributes:
        inner_loss: what the inner maximisation ascends, unless the configuration says otherwise;
            see :class:`dfshield.training.InnerMaximization`.
        inner_start: where it starts, likewise.
    """

    inner_loss: ClassVar[InnerLoss] = "kl"
    inner_start: ClassVar[Start] = "gaussian"

    def __call__(
        self,
        *,
        clean: Float[Tensor, "n k"],
        adversarial: Float[Tensor, "n k"],
        teacher: Float[Tensor, "n k"],
        labels: Int[Tensor, " n"],
    ) -> Losses:
        """Return the loss and its terms.

        Args:
            clean: student's logits ``S(x)``.
            adversarial: student's logits ``S(x')``.
            teacher: teacher's logits ``T(x)`` of the clean images.
            labels: artificial labels.

        Raises:
            InputError: for logits or labels that the objective cannot have.
        """
        terms = self.terms(clean=clean, adversarial=adversarial, teacher=teacher, labels=labels)
        first, *others = terms.values()
        total = first
        for term in others:
            total = total + term
        return Losses(total, terms)

    @abstractmethod
    def terms(
        self,
        *,
        clean: Float[Tensor, "n k"],
        adversarial: Float[Tensor, "n k"],
        teacher: Float[Tensor, "n k"],
        labels: Int[Tensor, " n"],
    ) -> dict[str, Float[Tensor, ""]]:
        """Return the weighted terms by name; their order is that in which they are added up."""
