"""The contract of the synthesizers: how surrogate images are made from a teacher."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dfshield.brief import Brief
from dfshield.checks import at_least
from dfshield.classifiers import Classifier, gradients, require_module
from dfshield.engine.acceleration import Acceleration
from dfshield.engine.trial import Ways
from dfshield.errors import DfshieldError, InputError, one_line
from dfshield.families import Variant
from dfshield.seeds import RngStream
from dfshield.synthesis.fit import GeneratorFit


@dataclass(frozen=True, eq=False, repr=False)
class SynthesizedBatch(Brief):
    """One batch of surrogate images, on the CPU.

    Attributes:
        images: float32 in [0, 1].
        labels: the artificial labels.
        record: the values of the synthesizer's own columns: one for the batch, shape (), or one
            per image, shape (n,).
    """

    images: Float[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]
    record: Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False, repr=False)
class BatchState(Brief):
    """Where an iterative synthesizer stands inside a pass: all that the rest of it depends on.

    A subclass adds fields: tensors, numbers and plain containers of them, as checkpoints hold.

    Attributes:
        iteration: how many iterations are done.
    """

    iteration: int


OnIteration = Callable[[int, Callable[[], BatchState]], None]
"""Called after each iteration with the number of those done and a function that returns the state.

The state shares memory with the work that goes on."""


class BoundSynthesizer(ABC):
    """A synthesizer with the teacher that it makes images from.

    A subclass writes :meth:`_make`.

    Args:
        teacher: the classifier, on the device of choice. A copy is used, in eval mode, with the
            weights that it has now; the classifier itself is left as it is.
        iterations: how many iterations a pass has; 0 for what makes its images in one piece.

    Raises:
        InputError: if the teacher is no `Classifier` (`Classifier.wrap` makes one of any module),
            or cannot be copied.

    Attributes:
        teacher: the copy, its weights frozen.
        iterations: as given.
    """

    def __init__(self, teacher: Classifier, *, iterations: int = 0) -> None:
        self.teacher = frozen_copy(teacher)
        self.iterations = iterations

    def synthesize(
        self,
        *,
        seed: int,
        batch: int,
        size: int = 200,
        stream: RngStream = RngStream.SYNTHESIS,
        resume: BatchState | None = None,
        on_iteration: OnIteration | None = None,
    ) -> SynthesizedBatch:
        """Return batch number ``batch`` of a run: the same images whatever was made before.

        See `synthesize_batches`.
        """
        (made,) = self.synthesize_batches(
            seed=seed,
            batches=[batch],
            size=size,
            stream=stream,
            resume=resume,
            on_iteration=on_iteration,
        )
        return made

    @gradients()
    def synthesize_batches(
        self,
        *,
        seed: int,
        batches: Sequence[int],
        size: int = 200,
        stream: RngStream = RngStream.SYNTHESIS,
        resume: BatchState | None = None,
        on_iteration: OnIteration | None = None,
    ) -> list[SynthesizedBatch]:
        """Return batches of a run that are made in one pass.

        Each is what it would have been alone, up to rounding, and the same images whatever was
        made before.

        Args:
            seed: the run's seed, from 0.
            batches: global indices of the batches.
            size: images in each.
            stream: ``SYNTHESIS`` or ``HOLDOUT``. The hold-out is class-balanced always.
            resume: go on from here; the images are those of a pass that never stopped.
            on_iteration: called after each iteration; see `OnIteration`.

        Raises:
            InputError: for a seed, an index or a size that cannot be, or no batch.
            DfshieldError: if images cannot be made; the message names the batch.
        """
        at_least(1, size, "size")
        if not batches:
            raise InputError("batches: there is no batch to synthesize")
        indices = [at_least(0, batch, "batch") for batch in batches]
        made = self._make(seed, indices, size, stream, resume, on_iteration)
        for batch, of_batch in zip(indices, made, strict=True):
            if not torch.isfinite(of_batch.images).all():
                raise DfshieldError(
                    f"batch {batch}: the synthesizer made pixels that are not finite"
                )
        return made

    def trial_ways(
        self,
        *,
        seed: int,  # noqa: ARG002
        num_batches: int,  # noqa: ARG002
        size: int,  # noqa: ARG002
        iterations: int,  # noqa: ARG002
        alone: bool = False,  # noqa: ARG002
    ) -> Ways | None:
        """Return the ways to make some batches, for an engine trial; None if there is but one.

        Args:
            seed: the run's seed, from 0.
            num_batches: how many of a run's first batches the pass makes.
            size: images in each.
            iterations: how many can be done.
            alone: whether the plain way takes one batch after the other, though the faster ones let
                them share a pass.
        """
        return None

    @abstractmethod
    def _make(
        self,
        seed: int,
        batches: Sequence[int],
        size: int,
        stream: RngStream,
        resume: BatchState | None,
        on_iteration: OnIteration | None,
    ) -> list[SynthesizedBatch]:
        """Make the batches of a pass; see `synthesize_batches`."""


class Synthesizer(Variant, ABC):
    """A way to make surrogate images. It holds options only; `bind` gives it a teacher.

    A subclass keeps its options as attributes of the same names.

    Attributes:
        columns: what is stored of every image beside pixels, label and logits: NumPy dtypes
            (``float32``, ``float64``, ``int64``) by name. The means of those called ``loss_...``
            are drawn as curves while the work goes on; ``loss_total`` as ``loss``.
        state_type: the state of an unfinished pass; None for what makes its images in one piece.
        accelerated: whether it can be compiled and computed in lower precision. What cannot is
            given the plain acceleration alone.
    """

    columns: ClassVar[Mapping[str, str]] = {}
    state_type: ClassVar[type[BatchState] | None] = None
    accelerated: ClassVar[bool] = False

    @abstractmethod
    def bind(
        self,
        teacher: Classifier,
        *,
        acceleration: Acceleration | None = None,
        full_pass: tuple[int, int] | None = None,
    ) -> BoundSynthesizer:
        """Return what makes images from a teacher.

        Args:
            teacher: see `BoundSynthesizer`.
            acceleration: how it may be computed faster.
            full_pass: number and size of the batches in the passes that are worth compiling; None:
                whatever is asked for. Others, a short last one, are computed without.

        Raises:
            InputError: if it cannot make images from this teacher.
        """

    def work(self, num_images: int) -> float:
        """Return about how many forward passes of the teacher it takes to make images."""
        return float(num_images)


class FittedSynthesizer(Synthesizer):
    """A synthesizer that samples from a generator, which is fitted to the teacher first.

    `fit` gives the generator's weights once for a data set; `with_weights` takes them, and what is
    then bound makes any batch.
    """

    _weights: Mapping[str, Tensor] | None = None

    @abstractmethod
    def fit(
        self, teacher: Classifier, *, seed: int, acceleration: Acceleration | None = None
    ) -> GeneratorFit:
        """Return the fit of the generator, at its beginning.

        Args:
            teacher: see `BoundSynthesizer`.
            seed: the run's seed; draws come from generators of ``RngStream.GENERATOR``.
            acceleration: how it may be computed faster.

        Raises:
            InputError: if a generator cannot be fitted to this teacher.
        """

    def with_weights(self, weights: Mapping[str, Tensor]) -> "FittedSynthesizer":
        """Return this synthesizer with the weights of a generator that was fitted."""
        fitted = copy.copy(self)
        fitted._weights = weights
        return fitted

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """The weights of the generator.

        Raises:
            InputError: if it has not been fitted.
        """
        if self._weights is None:
            raise InputError(f"{self.name} has no generator yet: use fit() and with_weights()")
        return self._weights


def frozen_copy(teacher: Classifier) -> Classifier:
    """Return a copy of a teacher in eval mode, its weights frozen.

    Raises:
        InputError: for what is no classifier, or cannot be copied.
    """
    if not isinstance(teacher, Classifier):
        require_module(teacher, "teacher")
        raise InputError(
            f"teacher: a {type(teacher).__name__} does not say what its images are: give "
            "dfshield.classifiers.Classifier.wrap(module, input_shape=..., mean=..., std=...)"
        )
    try:
        with torch.no_grad():  # else torch.jit's copies come with a history
            twin = copy.deepcopy(teacher)
    except Exception as error:
        raise InputError(
            f"teacher: {teacher.architecture.source} cannot be copied: {type(error).__name__}: "
            f"{one_line(error)}"
        ) from error
    for module in twin.modules():  # not by eval(), which may be bound to what was copied
        module.training = False
    return twin.requires_grad_(False)
