"""The contract of the diversity metrics: labelled images with logits go in, numbers come out."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple, final

from jaxtyping import Float, Int
from torch import Tensor

from dfshield.attacks import whole_labels
from dfshield.checks import at_least
from dfshield.errors import InputError
from dfshield.families import Variant
from dfshield.pixels import require_images


class Quantity(NamedTuple):
    """What a number of a metric is.

    Attributes:
        title: for tables: ``Entropy of the mean prediction``.
        unit: ``nats``, ``share`` for a number in [0, 1], or empty for one that has no unit.
        description: what it means, and which values are to be expected, in one sentence.
    """

    title: str
    unit: str
    description: str


class DiversityMetric(Variant, ABC):
    """A metric of how diverse a set of images is, which needs no real image.

    A subclass writes :meth:`measure`, names in ``quantities`` what it returns, and keeps its
    options as attributes of the same names; ``num_images`` is an option of each.

    Attributes:
        quantities: what :meth:`measure` returns, by name.
        needs_images: whether pixels are looked at; otherwise none need to be read.
        needs_features: whether the teacher's penultimate features are looked at.

    Args:
        num_images: how many images are measured at most: the first ones of a set.

    Raises:
        InputError: for a number of images below 1.
    """

    quantities: ClassVar[Mapping[str, Quantity]]
    needs_images: ClassVar[bool] = False
    needs_features: ClassVar[bool] = False

    def __init__(self, *, num_images: int = 10_000) -> None:
        self.num_images = at_least(1, num_images, "num_images")

    @final
    def __call__(
        self,
        *,
        labels: Int[Tensor, " n"],
        logits: Float[Tensor, "n k"],
        images: Float[Tensor, "n c h w"] | None = None,
        features: Float[Tensor, "n d"] | None = None,
    ) -> dict[str, float]:
        """Return the numbers by their names, those of the first ``num_images`` images.

        The order of the images does not matter.

        Args:
            labels: the class that each image was made for.
            logits: the teacher's, of these very images.
            images: in [0, 1]; None for a metric that does not need them.
            features: the teacher's, of these images; None for a metric that does not need them.

        Raises:
            InputError: if there is no image, a count or a shape is wrong, or images or features
                are needed and missing.
        """
        labels = whole_labels(labels)
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            raise InputError("logits: must be a tensor (images, classes)")
        if images is not None:
            require_images(images)
        if len(labels) == 0:
            raise InputError("labels: there is no image to measure")
        given = [each for each in (logits, images, features) if each is not None]
        if any(len(each) != len(labels) for each in given):
            raise InputError("labels, logits, images and features: give one each for every image")
        if images is None and self.needs_images:
            raise InputError(f"images: {self.name} looks at pixels")
        if features is None and self.needs_features:
            raise InputError(f"features: {self.name} looks at the teacher's features")
        first = slice(self.num_images)
        return self.measure(
            labels=labels[first],
            logits=logits[first],
            images=None if images is None else images[first],
            features=None if features is None else features[first],
        )

    @abstractmethod
    def measure(
        self,
        *,
        labels: Int[Tensor, " n"],
        logits: Float[Tensor, "n k"],
        images: Float[Tensor, "n c h w"] | None,
        features: Float[Tensor, "n d"] | None,
    ) -> dict[str, float]:
        """Return the numbers of these images, all of them, by the names of ``quantities``."""
