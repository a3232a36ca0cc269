"""The Kullback-Leibler divergence of two sets of logits, for attacks and training alike."""

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Reduction = Literal["batchmean", "mean", "none"]


def kl_divergence(
    target: Float[Tensor, "n k"],
    prediction: Float[Tensor, "n k"],
    *,
    temperature: float = 1.0,
    reduction: Reduction = "batchmean",
) -> Float[Tensor, "*n"]:
    """Return ``t^2 KL(softmax(target / t) || softmax(prediction / t))``.

    Gradients flow through both arguments. ``none`` gives one value per image; ``batchmean`` divides
    their sum by the batch size, ``mean`` by batch size times classes (what PyTorch calls ``mean``
    and the authors' code uses).
    """
    target = F.log_softmax(target / temperature, dim=1)
    prediction = F.log_softmax(prediction / temperature, dim=1)
    if reduction == "none":
        divergence = F.kl_div(prediction, target, reduction="none", log_target=True).sum(dim=1)
        return divergence * temperature**2
    divergence = F.kl_div(prediction, target, reduction="sum", log_target=True)
    count = target.shape[0] if reduction == "batchmean" else target.numel()
    return divergence * (temperature**2 / count)
