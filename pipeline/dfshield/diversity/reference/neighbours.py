"""Recall and coverage: how much of the real images a set reaches, by nearest neighbours."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from dfshield.checks import at_least
from dfshield.diversity.reference.base import Measure, ReferenceMetric, Score
from dfshield.diversity.reference.distances import Advance, kth_neighbours, nearest_of


class Neighbours(ReferenceMetric):
    """Recall and coverage, from the balls that reach to the k-th nearest neighbour.

    ``r(x)`` is the distance of x to its k-th nearest other point within its own set. Recall
    (Kynkaanniemi et al. 2019) is ``(1/N) #{real x : ||x - y|| < r(y) for a y of the set}``;
    coverage (Naeem et al. 2020) is ``(1/N) #{real x : ||x - y|| < r(x) for a y of the set}``.
    Recall can be raised by single outliers of the set, whose balls are large; coverage cannot.

    Args:
        k: which nearest neighbour a ball reaches to.

    Raises:
        InputError: for a k below 1.
    """

    name = "neighbours"
    scores: ClassVar[Mapping[str, Score]] = {
        "recall": Score(
            "Recall",
            "share",
            "higher",
            "real images within the k-nearest-neighbour ball of an image of the set",
        ),
        "coverage": Score(
            "Coverage",
            "share",
            "higher",
            "real images whose own k-nearest-neighbour ball holds an image of the set",
        ),
    }

    def __init__(self, *, k: int = 5) -> None:
        self.k = at_least(1, k, "k")

    @property
    def fewest(self) -> tuple[int, int]:
        """One more than k of both: a point is no neighbour of its own."""
        return self.k + 1, self.k + 1

    def prepare(
        self,
        real: Float[Tensor, "n d"],
        *,
        seed: int,  # noqa: ARG002
        advance: Advance,
    ) -> Measure:
        """Return what measures sets; see `ReferenceMetric`."""
        radii = kth_neighbours(real, self.k, advance)

        def measure(features: Float[Tensor, "m d"]) -> dict[str, float]:
            reach = kth_neighbours(features, self.k, advance)
            # A real point lies in some ball if it lies in that of the least ||x - y||^2 - r(y)^2.
            penalties = torch.stack([-reach, torch.zeros_like(reach)])
            index, squared = nearest_of(real, features, penalties, advance)
            return {
                "recall": float((squared[0] < reach[index[0]]).double().mean()),
                "coverage": float((squared[1] < radii).double().mean()),
            }

        return measure
