"""Losses that attacks ascend, one number per image; and what stands in where one is undefined."""

import warnings
from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from dfshield.errors import DfshieldWarning

Loss = Callable[[Float[Tensor, "n k"], Int[Tensor, " n"]], Float[Tensor, " n"]]
"""Logits and labels in, one loss per image out; larger is closer to a wrong prediction."""


def cross_entropy(logits: Float[Tensor, "n k"], y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return ``-log p_y``."""
    return F.cross_entropy(logits, y, reduction="none")


def margin(logits: Float[Tensor, "n k"], y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return ``max_{k != y} z_k - z_y`` (Carlini and Wagner, 2017): above 0 is wrong."""
    label = y.view(-1, 1)
    rival = logits.scatter(1, label, -float("inf")).amax(1)
    return rival - logits.gather(1, label).view(-1)


def dlr(logits: Float[Tensor, "n k"], y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return ``(max_{k != y} z_k - z_y) / (z_p1 - z_p3)``, p the order from the largest logit down.

    The difference of logits ratio of Croce and Hein (2020), which no scaling of the logits changes;
    needs three classes.
    """
    largest = logits.topk(3, dim=1).values
    return margin(logits, y) / (largest[:, 0] - largest[:, 2] + 1e-12)


def l1(logits: Float[Tensor, "n k"], y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return ``-p_y``, the probability of the label (Yao et al., 2021)."""
    return -logits.softmax(1).gather(1, y.view(-1, 1)).view(-1)


def label_logit(logits: Float[Tensor, "n k"], y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return ``-z_y``."""
    return -logits.gather(1, y.view(-1, 1)).view(-1)


LOSSES: dict[str, Loss] = {
    "ce": cross_entropy,
    "cw": margin,
    "dlr": dlr,
    "l1": l1,
    "logit": label_logit,
}


def loss_for(name: str, num_classes: int) -> Loss:
    """Return the loss of this name; with two classes ``cw`` stands in for ``dlr``, and says so."""
    if name == "dlr" and num_classes < 3:
        warnings.warn(
            f"there is no DLR loss with {num_classes} classes: its numerator, the margin, was used",
            DfshieldWarning,
            stacklevel=4,
        )
        return margin
    return LOSSES[name]
