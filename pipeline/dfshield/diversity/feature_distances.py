"""Mean pairwise distance of the teacher's features, class by class."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dfshield.diversity.base import DiversityMetric, Quantity

CHUNK = 256
"""Images whose distances to all others of their label are held at once."""


class FeatureDistances(DiversityMetric):
    """How far apart the images of a class lie in the teacher's penultimate features, on average.

    With f the features, the distance of a class of n images is the mean of ``||f_i - f_j||_2`` over
    its ``n (n - 1) / 2`` pairs, in float64; classes with fewer than two images are left out. The
    scale is that of the teacher's features: compare sets of one teacher only. The time grows with
    the square of the images per label.

    Args:
        num_images: how many images are measured at most: the first ones of a set.

    Raises:
        InputError: for a number of images below 1.
    """

    name = "feature-distances"
    needs_features = True
    quantities: ClassVar[Mapping[str, Quantity]] = {
        "mean_distance": Quantity(
            "Mean feature distance",
            "",
            "of two images of one class in the teacher's features, mean over the classes; 0 where "
            "all images of a class are equal",
        ),
        "least_distance": Quantity(
            "Least feature distance",
            "",
            "the same of the class whose images lie closest",
        ),
    }

    def measure(
        self,
        *,
        labels: Int[Tensor, " n"],
        logits: Float[Tensor, "n k"],  # noqa: ARG002
        images: Float[Tensor, "n c h w"] | None,  # noqa: ARG002
        features: Float[Tensor, "n d"] | None,
    ) -> dict[str, float]:
        """Return mean and least over the classes, 0 without a pair; see `DiversityMetric`."""
        assert features is not None
        classes = [features[labels == label] for label in set(labels.tolist())]
        means = [_mean_distance(of_class) for of_class in classes if len(of_class) > 1]
        return {
            "mean_distance": sum(means) / max(len(means), 1),
            "least_distance": min(means, default=0.0),
        }


def _mean_distance(features: Float[Tensor, "n d"]) -> float:
    points, total = features.double(), 0.0
    for start in range(0, len(points), CHUNK):
        rows = points[start : start + CHUNK]
        # Not by products: by differences, so that equal images are at distance 0.
        distances = torch.cdist(rows, points, compute_mode="donot_use_mm_for_euclid_dist")
        total += float(distances.sum())
    return total / (len(points) * (len(points) - 1))
