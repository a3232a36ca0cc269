"""Perturbations that are kept per image, for the attack of the next epoch to begin with."""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float, Float16, Int
from torch import Tensor

from dfshield.training.records import MiniBatch

KEPT_ALONE = "start 'kept' is of the images as they are: leave augmentations out"


class KeptPerturbations:
    """What the last attack on every image has added to it; zero before the first.

    In half precision, on the CPU: every worker of a group holds all of them, so that any may be
    given any image in the next epoch.

    Args:
        num_images: how many there are.
        image_shape: (c, h, w).
    """

    def __init__(self, num_images: int, image_shape: Sequence[int]) -> None:
        self._values = torch.zeros(num_images, *image_shape, dtype=torch.float16)

    @property
    def values(self) -> Float16[Tensor, "n c h w"]:
        """Those of all images (not a copy)."""
        return self._values

    def of(self, rows: Int[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
        """Return those of images, on the device of ``rows``."""
        return self._values[rows.cpu()].to(rows.device, torch.float32)

    def update(self, mini_batches: Iterable[MiniBatch]) -> None:
        """Take over what the attacks of mini-batches, of all workers, have found."""
        for mini_batch in mini_batches:
            assert mini_batch.rows is not None
            assert mini_batch.perturbations is not None
            self._values[mini_batch.rows] = mini_batch.perturbations

    def load(self, values: Float16[Tensor, "n c h w"]) -> None:
        """Take over those of a state; they are copied.

        Raises:
            ValueError: if they are of other images.
        """
        if values.shape != self._values.shape:
            raise ValueError(
                f"perturbations of images {list(values.shape)}, not {list(self._values.shape)}"
            )
        self._values = values.to("cpu", torch.float16, copy=True)
