"""Agreement between the hold-out images, under noise."""

import torch
from jaxtyping import Float
from torch import Tensor

from dfshield.attacks import random_start
from dfshield.checks import non_negative
from dfshield.training.measures.answers import classes_of
from dfshield.training.measures.base import Agreements, Chunk, HoldoutMeasure


class AgreementMixtures(HoldoutMeasure):
    """Share of noisy mixtures of two images that get the class that the teacher gives the mixture.

    ``x = w a + (1 - w) b`` with w uniform in [0, 1] and b another image of the chunk;
    ``mean[S(x + n) = T(x)]``, n uniform in the ball of ``noise`` times the threat's eps. Mixtures
    lie between classes, where synthetic images themselves are none.

    Args:
        noise: radius of the noise, as a multiple of eps.

    Raises:
        InputError: for a negative radius.
    """

    name = "agreement_mixtures"
    title = "Agreement on noisy mixtures"
    passes = 2.0

    def __init__(self, *, noise: float | int = 2.0) -> None:
        self.noise = non_negative(noise, "noise")

    def ask(self, chunk: Chunk) -> Agreements:
        """Mix the images; see `HoldoutMeasure`."""
        mixed = mixtures(chunk)
        noisy = random_start(
            mixed, eps=self.noise * chunk.eps, norm=chunk.norm, generator=chunk.rng
        )
        expected = classes_of(chunk.teacher, mixed)
        return {"mixtures": classes_of(chunk.student, noisy) == expected}


def mixtures(chunk: Chunk) -> Float[Tensor, "n c h w"]:
    """Return each image of a chunk mixed with another one, by a weight that is uniform."""
    images = chunk.images
    partners = torch.from_numpy(chunk.rng.permutation(len(images))).to(images.device)
    weights = torch.from_numpy(chunk.rng.uniform(size=(len(images), 1, 1, 1))).to(images)
    return weights * images + (1 - weights) * images[partners]
