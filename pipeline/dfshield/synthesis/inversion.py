"""The inversion engine: images from a classifier by gradient descent on the pixels."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dfshield.brief import Brief
from dfshield.checks import at_least, positive
from dfshield.classifiers import Classifier, gradients, require_hardenable, require_module
from dfshield.engine.acceleration import Acceleration
from dfshield.errors import DfshieldError, InputError, one_line
from dfshield.seeds import RngStream
from dfshield.synthesis.batched import Together
from dfshield.synthesis.coefficients import Coefficients, CoefficientSampler
from dfshield.synthesis.draws import BatchDraws, LabelRule, draw_batch
from dfshield.synthesis.plain import InversionState, OnIteration, optimise


@dataclass(frozen=True, eq=False, repr=False)
class SynthesizedBatch(Brief):
    """One batch of surrogate images, on the CPU.

    Attributes:
        images: float32 in [0, 1].
        labels: the artificial labels.
        coefficients: what the loss terms were weighted with.
        losses: class, feature, tv and weighted total of the last iteration, before its step.
    """

    images: Float[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]
    coefficients: Coefficients
    losses: Float[Tensor, "4"]


class Inversion:
    """Diversified sample synthesis (first half of Algorithm 1; equations 3 to 6 and 8).

    Each batch starts from ``N(0, 1)`` noise in the teacher's normalised space and takes
    ``iterations`` steps of Adam (betas 0.9 and 0.999, constant learning rate, fresh state) on
    ``alpha_class L_class + alpha_feature L_feature + alpha_tv L_tv`` of the images rolled by a
    random shift that the whole batch shares. The *last* iterate is kept: a "best" one would compare
    losses under different shifts. It is denormalised and clipped to [0, 1].

    Args:
        teacher: the classifier to invert, on the device of choice. A copy is inverted, in eval
            mode, with the weights that it has now; the classifier itself is left as it is.
        iterations: optimisation steps per batch.
        learning_rate: Adam's.
        jitter: largest shift per axis, in pixels.
        labels: how artificial labels are assigned.
        coefficients: how the loss terms are weighted.
        acceleration: how it may be computed faster; see `Together`.
        full_pass: number and size of the batches in the passes that are worth compiling; None:
            whatever is asked for. Others, a short last one, are computed without.

    Raises:
        InputError: if the teacher is no `Classifier` (`Classifier.wrap` makes one of any module),
            has no BatchNorm layer with running statistics, weights that are not float32, or
            probabilities for logits; for an unknown rule of the labels or a number that cannot be.

    Attributes:
        teacher: the copy.
    """

    def __init__(
        self,
        teacher: Classifier,
        *,
        iterations: int = 2000,
        learning_rate: float = 0.1,
        jitter: int = 2,
        labels: LabelRule = "per_batch",
        coefficients: CoefficientSampler | None = None,
        acceleration: Acceleration | None = None,
        full_pass: tuple[int, int] | None = None,
    ) -> None:
        if labels not in get_args(LabelRule):
            known = ", ".join(get_args(LabelRule))
            raise InputError(f"labels: {labels!r} is unknown: known are {known}")
        self.iterations = at_least(1, iterations, "iterations")
        self.learning_rate = positive(learning_rate, "learning_rate")
        self.jitter = at_least(0, jitter, "jitter")
        self.teacher = _copy_of(teacher)
        require_hardenable(self.teacher)
        self.labels: LabelRule = labels
        self.coefficients = coefficients or CoefficientSampler()
        self.acceleration = acceleration or Acceleration()
        self.full_pass = full_pass
        self._together: dict[tuple[int, int], Together] = {}

    def synthesize(
        self,
        *,
        seed: int,
        batch: int,
        size: int = 200,
        stage: RngStream = RngStream.SYNTHESIS,
        resume: InversionState | None = None,
        on_iteration: OnIteration | None = None,
    ) -> SynthesizedBatch:
        """Return batch number ``batch`` of a run: the same images whatever was made before.

        See `synthesize_together`.
        """
        (made,) = self.synthesize_together(
            seed=seed,
            batches=[batch],
            size=size,
            stage=stage,
            resume=resume,
            on_iteration=on_iteration,
        )
        return made

    @gradients()
    def synthesize_together(
        self,
        *,
        seed: int,
        batches: Sequence[int],
        size: int = 200,
        stage: RngStream = RngStream.SYNTHESIS,
        resume: InversionState | None = None,
        on_iteration: OnIteration | None = None,
    ) -> list[SynthesizedBatch]:
        """Return batches of a run that share their forward passes.

        Each gets what it would have got alone, up to rounding, and the same images whatever was
        made before.

        Args:
            seed: the run's seed, from 0.
            batches: global indices of the batches.
            size: images in each.
            stage: ``SYNTHESIS`` or ``HOLDOUT``. The hold-out is class-balanced under every rule.
            resume: go on from here; the images are those of an optimisation that never stopped.
            on_iteration: called after each iteration; see `OnIteration`.

        Raises:
            InputError: for a seed, an index or a size that cannot be, or no batch.
            DfshieldError: if the optimisation diverges.
        """
        at_least(1, size, "size")
        if not batches:
            raise InputError("batches: there is no batch to synthesize")
        draws = [
            draw_batch(
                seed=seed,
                stage=stage,
                batch=at_least(0, batch, "batch"),
                size=size,
                image_shape=self.teacher.input_shape,
                num_classes=self.teacher.num_classes,
                labels="balanced" if stage is RngStream.HOLDOUT else self.labels,
                coefficients=self.coefficients,
                jitter=self.jitter,
                iterations=self.iterations,
            )
            for batch in batches
        ]
        pixels, losses = self._optimise(draws, resume=resume, on_iteration=on_iteration)
        images = torch.split(self.teacher.denormalise(pixels).clamp(0.0, 1.0).cpu(), size)
        # Before clipping, which would hide infinite pixels. Losses overflow before pixels do.
        for batch, made, loss in zip(batches, torch.split(pixels, size), losses, strict=True):
            if not (torch.isfinite(made).all() and torch.isfinite(loss).all()):
                raise DfshieldError(
                    f"batch {batch}: the synthesis diverged (pixels or losses are not finite); "
                    "lower synthesis.learning_rate or the coefficient scales"
                )
        return [
            SynthesizedBatch(
                images=of_batch.contiguous(),
                labels=torch.from_numpy(draw.labels),
                coefficients=draw.coefficients,
                losses=loss,
            )
            for of_batch, draw, loss in zip(images, draws, losses.cpu(), strict=True)
        ]

    def _optimise(
        self,
        draws: list[BatchDraws],
        *,
        resume: InversionState | None,
        on_iteration: OnIteration | None,
    ) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "g 4"]]:
        """Optimise the batches of one pass, on the plain path if that is all that is asked for."""
        if self.acceleration.plain and len(draws) == 1:
            pixels, losses = optimise(
                self.teacher.network,
                draws[0],
                learning_rate=self.learning_rate,
                device=self.teacher.mean.device,
                resume=resume,
                on_iteration=on_iteration,
            )
            return pixels, losses[None]
        shape = (len(draws), len(draws[0].labels))
        if shape not in self._together:
            acceleration = self.acceleration
            if self.full_pass not in (None, shape):
                acceleration = replace(acceleration, compiled=False)
            self._together[shape] = Together(
                self.teacher.network,
                groups=shape[0],
                size=shape[1],
                image_shape=self.teacher.input_shape,
                acceleration=acceleration,
            )
        return self._together[shape].optimise(
            draws, learning_rate=self.learning_rate, resume=resume, on_iteration=on_iteration
        )


def _copy_of(teacher: Classifier) -> Classifier:
    """Return a copy in eval mode, its weights frozen.

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
