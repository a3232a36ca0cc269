"""Images with a box of another one."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dfshield.checks import positive, share
from dfshield.training.augmentations.base import Augmentation, boxes


class Cutmix(Augmentation):
    """CutMix (Yun et al. 2019): a box of another image of the mini-batch in the place of its own.

    The box takes the share ``1 - v`` of the image, ``v ~ Beta(alpha, alpha)``, with the image's
    proportions; it is centred anywhere and cut off at the border. Each image has its own box. The
    soft labels are the teacher's of what is shown then; the artificial label is that of the image
    which has most of the pixels, where the paper mixes two.

    Args:
        alpha: of the Beta distribution.
        probability: share of the images that are mixed, in [0, 1].

    Raises:
        InputError: for an ``alpha`` that is not positive, or a share outside [0, 1].
    """

    name = "cutmix"

    def __init__(self, *, alpha: float | int = 1.0, probability: float | int = 0.5) -> None:
        self.alpha = positive(alpha, "alpha")
        self.probability = share(probability, "probability")

    def __call__(
        self,
        images: Float[Tensor, "n c h w"],
        labels: Int[Tensor, " n"],
        *,
        generator: np.random.Generator,
    ) -> tuple[Float[Tensor, "n c h w"], Int[Tensor, " n"]]:
        """Return some mixed; see `Augmentation`."""
        number, _, height, width = images.shape
        chosen = generator.random(number) < self.probability
        others = torch.from_numpy(generator.permutation(number)).to(images.device)
        ratio = np.sqrt(1 - generator.beta(self.alpha, self.alpha, size=number)) * chosen
        rows, columns = (generator.integers(0, side, size=number) for side in (height, width))
        sides = tuple(np.rint(ratio * side).astype(np.int64) for side in (height, width))
        mask = boxes((rows, columns), (sides[0], sides[1]), images)
        mostly = mask.flatten(1).double().mean(dim=1) > 0.5
        mixed = torch.where(mask, images[others], images)
        return mixed, torch.where(mostly, labels[others], labels)
