"""The contract of the hold-out measures: what students are compared by where no image is real."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dfshield.attacks import Norm
from dfshield.brief import Brief
from dfshield.families import Variant


@dataclass(frozen=True, repr=False)
class Chunk(Brief):
    """Hold-out images, what student and teacher say to them, and both models to ask further.

    Attributes:
        student: images in [0, 1] to logits; its mode is left as it is.
        teacher: likewise, on the same device.
        images: float32 in [0, 1].
        expected: the teacher's class of each.
        clean: the student's class of each.
        attacked: the student's class of the adversarial version that every epoch makes.
        eps: radius of the threat model on the [0, 1] scale.
        norm: its norm.
        rng: all that a measure draws comes from it.
    """

    student: nn.Module
    teacher: nn.Module
    images: Float[Tensor, "n c h w"]
    expected: Int[Tensor, " n"]
    clean: Int[Tensor, " n"]
    attacked: Int[Tensor, " n"]
    eps: float
    norm: Norm
    rng: np.random.Generator


Agreements = dict[str, Bool[Tensor, " n"]]
"""Whether student and teacher agree on each image of a chunk, by what was asked."""


class HoldoutMeasure(Variant, ABC):
    """A figure in [0, 1] on synthetic images; students are ranked by it, the highest first.

    It is a product of shares: of the images on which student and teacher agree, one share for each
    question of :meth:`ask`. What is asked of one chunk of images does not depend on the others, so
    that workers share them out.

    Attributes:
        title: for people, without a full stop.
        passes: forward passes of one model that an image costs, a backward pass to the image
            counting as one, beyond those that every epoch makes anyway.
    """

    title: ClassVar[str]
    passes: int = 0

    @abstractmethod
    def ask(self, chunk: Chunk) -> Agreements:
        """Return on which images of a chunk student and teacher agree, for every question."""

    @final
    def score(self, agreements: Mapping[str, Bool[Tensor, " n"]]) -> float:
        """Return the product of the shares, in [0, 1].

        Args:
            agreements: what `ask` returned, of all chunks one after the other.
        """
        shares = [agreeing.double().mean() for agreeing in agreements.values()]
        return float(torch.stack(shares).prod())
