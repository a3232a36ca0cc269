"""Entropy of the teacher's predictions: of their mean, and of each on average."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dfshield.diversity.base import DiversityMetric, Quantity


class PredictionEntropy(DiversityMetric):
    """Entropies of the teacher's predictions ``p_i = softmax(T(x_i))``, in nats.

    ``H((1/n) sum_i p_i)`` is ln k for images that cover all k classes evenly, 0 for images of one
    class; ``(1/n) sum_i H(p_i)`` is 0 where the teacher is certain. Their difference is the mutual
    information of image and prediction, the logarithm of the Inception score (Salimans et al. 2016)
    with the teacher in the place of Inception.

    Args:
        num_images: how many images are measured at most: the first ones of a set.

    Raises:
        InputError: for a number of images below 1.
    """

    name = "prediction-entropy"
    quantities: ClassVar[Mapping[str, Quantity]] = {
        "entropy_of_mean": Quantity(
            "Entropy of the mean prediction",
            "nats",
            "ln k where the images cover all k classes evenly, 0 where they are of one class",
        ),
        "mean_entropy": Quantity(
            "Mean entropy of the predictions",
            "nats",
            "0 where the teacher is certain of every image, ln k where it is of none",
        ),
    }

    def measure(
        self,
        *,
        labels: Int[Tensor, " n"],  # noqa: ARG002
        logits: Float[Tensor, "n k"],
        images: Float[Tensor, "n c h w"] | None,  # noqa: ARG002
        features: Float[Tensor, "n d"] | None,  # noqa: ARG002
    ) -> dict[str, float]:
        """Return both entropies, computed in float64; see `DiversityMetric`."""
        p = logits.double().softmax(dim=1)
        return {
            "entropy_of_mean": float(torch.special.entr(p.mean(dim=0)).sum()),
            "mean_entropy": float(torch.special.entr(p).sum(dim=1).mean()),
        }
