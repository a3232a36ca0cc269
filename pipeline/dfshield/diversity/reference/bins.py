"""NDB and JSD: how the images of a set are spread over clusters of the real ones."""

import math
import warnings
from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from dfshield.checks import at_least, positive
from dfshield.diversity.reference.base import Measure, ReferenceMetric, Score
from dfshield.diversity.reference.distances import Advance, nearest_of
from dfshield.errors import InputError
from dfshield.seeds import RngStream, derived_seed

ITERATIONS = 100
"""Of K-means at most."""


class Bins(ReferenceMetric):
    """Number of statistically different bins, and divergence of the bins' histograms.

    Bins are the cells of K-means centres of the real features; an image is in the bin of its
    nearest centre. With p and q the shares of real images and of those of the set in a bin, and P
    the share of both pooled, the bin is different if ``z = (p - q) / sqrt(P (1 - P) (1/N + 1/M))``
    has a two-tailed p-value below ``significance``. NDB (Richardson & Weiss 2018) counts these
    bins; it grows with the number of images. JSD is ``(KL(p||m) + KL(q||m)) / 2`` with
    ``m = (p + q) / 2``, in nats, from 0 to ln 2.

    Args:
        num_bins: K of K-means (scikit-learn's, k-means++, one start).
        significance: level of the test.

    Raises:
        InputError: for fewer than 2 bins, or a level that is not in (0, 1].
    """

    name = "bins"
    scores: ClassVar[Mapping[str, Score]] = {
        "ndb": Score(
            "NDB",
            "bins",
            "lower",
            "K-means bins of the real images that the set fills otherwise, by a z-test",
        ),
        "jsd": Score(
            "JSD",
            "nats",
            "lower",
            "Jensen-Shannon divergence of the shares of the bins, ln 2 at most",
        ),
    }

    def __init__(self, *, num_bins: int = 100, significance: float = 0.05) -> None:
        self.num_bins = at_least(2, num_bins, "num_bins")
        self.significance = positive(significance, "significance", most=1.0)

    @property
    def fewest(self) -> tuple[int, int]:
        """A real image for every bin, and one of the set."""
        return self.num_bins, 1

    def prepare(self, real: Float[Tensor, "n d"], *, seed: int, advance: Advance) -> Measure:
        """Return what measures sets; see `ReferenceMetric`."""
        centres = self._centres(real, seed)

        def counts(features: Float[Tensor, "m d"]) -> Int[Tensor, " k"]:
            zeros = torch.zeros(1, len(centres), dtype=torch.float64, device=real.device)
            (index,), _ = nearest_of(features, centres, zeros, advance)
            found: Tensor = index.bincount(minlength=len(centres)).cpu()
            return found

        of_real = counts(real)

        def measure(features: Float[Tensor, "m d"]) -> dict[str, float]:
            of_set = counts(features)
            different = p_values(of_real, of_set) < self.significance
            return {"ndb": float(different.sum()), "jsd": divergence(of_real, of_set)}

        return measure

    def _centres(self, real: Float[Tensor, "n d"], seed: int) -> Float[Tensor, "k d"]:
        from sklearn.cluster import KMeans  # here: it loads slowly
        from sklearn.exceptions import ConvergenceWarning

        means = KMeans(
            self.num_bins,
            n_init=1,
            max_iter=ITERATIONS,
            random_state=derived_seed(seed, RngStream.DIVERSITY),
        )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", ConvergenceWarning)
                means.fit(real.cpu().numpy())
        except ConvergenceWarning:
            raise InputError(
                f"real: too many equal features for {self.num_bins} bins: lower num_bins"
            ) from None
        return torch.from_numpy(means.cluster_centers_).to(real.device)


def p_values(of_real: Int[Tensor, " k"], of_set: Int[Tensor, " k"]) -> Float64[Tensor, " k"]:
    """Return the two-tailed p-value of every bin: that both shares are one, by a pooled z-test."""
    n, m = of_real.sum().double(), of_set.sum().double()
    pooled = (of_real + of_set) / (n + m)
    error = (pooled * (1 - pooled) * (1 / n + 1 / m)).sqrt()
    gap = (of_real / n - of_set / m).abs()
    # A bin with no image, or with all, differs in nothing: 0 / 0.
    found: Tensor = torch.special.erfc((gap / error).nan_to_num(nan=0.0) / math.sqrt(2))
    return found


def divergence(of_real: Int[Tensor, " k"], of_set: Int[Tensor, " k"]) -> float:
    """Return the Jensen-Shannon divergence of two histograms, in nats."""
    p, q = (counts.double() / counts.sum() for counts in (of_real, of_set))
    entropy = torch.special.entr
    found = entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2
    return max(0.0, float(found.sum()))
