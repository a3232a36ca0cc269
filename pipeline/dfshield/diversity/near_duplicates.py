"""Share of near-duplicates: images that almost repeat another of their class, pixel by pixel."""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dfshield.checks import positive
from dfshield.diversity.base import DiversityMetric, Quantity

CHUNK = 256
"""Images whose distances to all others of their label are held at once."""


class NearDuplicates(DiversityMetric):
    """The share of images whose nearest neighbour of the same label is closer than a threshold.

    The distance of two images is the root mean square of the differences of their pixels,
    ``||x_i - x_j||_2 / sqrt(c h w)``, in [0, 1], computed pair by pair in float64. With ``d_i`` the
    least distance of image i to another image of its label (infinite where there is none), the
    share is ``(1/n) #{i : d_i < threshold}``. The time grows with the square of the images per
    label.

    Args:
        threshold: on the [0, 1] scale of the pixels.
        num_images: how many images are measured at most: the first ones of a set.

    Raises:
        InputError: for a threshold that is not in (0, 1], or a number of images below 1.
    """

    name = "near-duplicates"
    needs_images = True
    quantities: ClassVar[Mapping[str, Quantity]] = {
        "near_duplicates": Quantity(
            "Near-duplicates",
            "share",
            "images whose nearest neighbour of the same class differs by less than the threshold",
        ),
    }

    def __init__(self, *, threshold: float = 0.05, num_images: int = 10_000) -> None:
        super().__init__(num_images=num_images)
        self.threshold = positive(threshold, "threshold", most=1.0)

    def measure(
        self,
        *,
        labels: Int[Tensor, " n"],
        logits: Float[Tensor, "n k"],  # noqa: ARG002
        images: Float[Tensor, "n c h w"] | None,
        features: Float[Tensor, "n d"] | None,  # noqa: ARG002
    ) -> dict[str, float]:
        """Return the share; see `DiversityMetric`."""
        assert images is not None
        pixels = images.flatten(1).double()
        limit = self.threshold * math.sqrt(pixels.shape[1])
        close = sum(_close(pixels[labels == label], limit) for label in set(labels.tolist()))
        return {"near_duplicates": close / len(labels)}


def _close(pixels: Float[Tensor, "n d"], limit: float) -> int:
    """Return how many rows have another one at a Euclidean distance below ``limit``."""
    close = 0
    for start in range(0, len(pixels), CHUNK):
        rows = pixels[start : start + CHUNK]
        # Not by products: pixel by pixel, so that equal images are at distance 0.
        distances = torch.cdist(rows, pixels, compute_mode="donot_use_mm_for_euclid_dist")
        distances[torch.arange(len(rows)), torch.arange(start, start + len(rows))] = math.inf
        close += int((distances.amin(dim=1) < limit).sum())
    return close
