"""The contract of the metrics against real images: features of both go in, numbers come out."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal, NamedTuple, final

from jaxtyping import Float
from torch import Tensor

from dfshield.diversity.reference.distances import Advance
from dfshield.errors import InputError, counted
from dfshield.families import Variant
from dfshield.seeds import whole_seed


class Score(NamedTuple):
    """What a number of a metric is.

    Attributes:
        title: for tables: ``Recall``.
        unit: ``share`` for a number in [0, 1], ``bins`` for a count of these, or ``nats``.
        better: whether a higher or a lower one tells of more diverse images.
        description: what it means, in one sentence.
    """

    title: str
    unit: Literal["share", "bins", "nats"]
    better: Literal["higher", "lower"]
    description: str


Measure = Callable[[Float[Tensor, "m d"]], dict[str, float]]
"""Takes the features of a set, returns the numbers by their names."""


class ReferenceMetric(Variant, ABC):
    """A metric of how well a set of images covers real ones, in a space of features.

    It looks at real images: what it says must never feed the making of images, the training or the
    choice of a student.

    A subclass writes :meth:`prepare`, names in ``scores`` what is measured, and keeps its options
    as attributes of the same names.

    Attributes:
        scores: what is measured, by name.
    """

    scores: ClassVar[Mapping[str, Score]]

    @property
    @abstractmethod
    def fewest(self) -> tuple[int, int]:
        """How many real images, and how many of a set, it needs at least."""

    @final
    def fit(
        self,
        real: Float[Tensor, "n d"],
        *,
        seed: int = 0,
        advance: Advance = lambda _: None,
    ) -> Measure:
        """Return what measures sets against these real images.

        Args:
            real: features of real images. Sets are measured on their device.
            seed: of what is drawn at random, a whole number from 0.
            advance: is told, here and while a set is measured, how many more images are compared.

        Raises:
            InputError: for too few images or features that are not finite, here; for a set of too
                few, or with other features, when it is measured.
        """
        fewest_real, fewest = self.fewest
        self._check(real, fewest_real, "real")
        measure = self.prepare(real, seed=whole_seed(seed), advance=advance)

        def measure_checked(features: Float[Tensor, "m d"]) -> dict[str, float]:
            self._check(features, fewest, "features")
            if features.shape[1] != real.shape[1]:
                raise InputError(
                    f"features: {features.shape[1]} numbers an image, but the real images have "
                    f"{real.shape[1]}: both must come from one feature space"
                )
            return measure(features.to(real.device))

        return measure_checked

    @abstractmethod
    def prepare(self, real: Float[Tensor, "n d"], *, seed: int, advance: Advance) -> Measure:
        """Return what measures sets, after what is done once for the real images."""

    def _check(self, features: object, fewest: int, key: str) -> None:
        if not isinstance(features, Tensor) or features.ndim != 2 or features.is_complex():
            raise InputError(f"{key}: must be a tensor (images, features)")
        if len(features) < fewest:
            raise InputError(
                f"{key}: {counted(len(features), 'image')}, but {self.name} needs at least {fewest}"
            )
        if not bool(features.isfinite().all()):
            raise InputError(f"{key}: there are NaN or infinite features")
