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
        unit: ``nats``, or ``share`` for a number in [0, 1].
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

    Args:
        num_images: how many images are measured at most: the first ones of a set.

    Raises:
        InputError: for a number of images below 1.
    """

    quantities: ClassVar[Mapping[str, Quantity]]
    needs_images: ClassVar[bool] = False

    def __init__(self, *, num_images: int = 10_000) -> None:
        self.num_images = at_least(1, num_images, "num_images")

    @final
    def __call__(
        self,
        *,
        labels: Int[Tensor, " n"],
        logits: Float[Tensor, "n k"],
        images: Float[Tensor, "n c h w"] | None = None,
    ) -> dict[str, float]:
        """Return the numbers by their names, those of the first ``num_images`` images.

        The order of the images does not matter.

        Args:
            labels: the class that each image was made for.
            logits: the teacher's, of these very images.
            images: in [0, 1]; None for a metric that does not need them.

        Raises:
            InputError: if there is no image, a count or a shape is wrong, or images are needed and
                missing.
        """
        labels = whole_labels(labels)
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            raise InputError("logits: must be a tensor (images, classes)")
        if images is not None:
            require_images(images)
        if len(labels) == 0:
            raise InputError("labels: there is no image to measure")
        if len(logits) != len(labels) or (images is not None and len(images) != len(labels)):
            raise InputError("labels, logits and images: give one each for every image")
        if images is None and self.needs_images:
            raise InputError(f"images: {self.name} looks at pixels")
        first = slice(self.num_images)
        return self.measure(
            labels=labels[first],
            logits=logits[first],
            images=None if images is None else images[first],
        )

    @abstractmethod
    def measure(
        self,
        *,
        labels: Int[Tensor, " n"],
        logits: Float[Tensor, "n k"],
        images: Float[Tensor, "n c h w"] | None,
    ) -> dict[str, float]:
        """Return the numbers of these images, all of them, by the names of ``quantities``."""
