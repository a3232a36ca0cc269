"""Standard adversarial training on artificial labels."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from dfshield.training.objectives.base import Objective
from dfshield.training.requirements import require_labels


class StandardObjective(Objective):
    """Standard adversarial training (Madry et al. 2018) on artificial labels: ``CE(S(x'), y)``.

    The adversarial images maximise the same cross-entropy, from a uniform start in the ball. The
    clean images take part in BatchNorm's statistics alone, as they do with every objective.
    """

    name = "std"
    inner_loss = "ce"
    inner_start = "uniform"

    def __init__(self) -> None:
        """Take no option."""

    def terms(
        self,
        *,
        clean: Float[Tensor, "n k"],  # noqa: ARG002
        adversarial: Float[Tensor, "n k"],
        teacher: Float[Tensor, "n k"],  # noqa: ARG002
        labels: Int[Tensor, " n"],
    ) -> dict[str, Float[Tensor, ""]]:
        """Return the one term; see `Objective`.

        Raises:
            InputError: for a label that is none of the classes.
        """
        require_labels(labels, adversarial.shape[1])
        return {"robust": F.cross_entropy(adversarial, labels)}
