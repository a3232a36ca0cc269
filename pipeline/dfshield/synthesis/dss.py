"""Diversified sample synthesis: images from a classifier by gradient descent on the pixels."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dfshield.checks import at_least, one_of, positive, share
from dfshield.classifiers import Classifier, require_hardenable
from dfshield.engine.acceleration import Acceleration
from dfshield.engine.trial import Ways
from dfshield.errors import DfshieldError, InputError
from dfshield.schedules import SCHEDULES
from dfshield.seeds import RngStream
from dfshield.synthesis.base import (
    BatchState,
    BoundSynthesizer,
    OnIteration,
    SynthesizedBatch,
    Synthesizer,
)
from dfshield.synthesis.batched import BatchedInversion
from dfshield.synthesis.coefficients import CoefficientSampler
from dfshield.synthesis.draws import BatchDraws, LabelRule, draw_batch
from dfshield.synthesis.graphed import GraphedGradient
from dfshield.synthesis.plain import InversionState, optimise
from dfshield.synthesis.trial import inversion_ways

Rates = Literal["constant", "cosine"]
Holdouts = Literal["alike", "fixed"]
ALPHAS = ("alpha_class", "alpha_feature", "alpha_tv")
LOSSES = ("loss_class", "loss_feature", "loss_tv", "loss_total")

DIVERSIFIED = CoefficientSampler()
FIXED = CoefficientSampler(rule="fixed", feature_scale=0.1)
"""Of a hold-out that is not diversified: those that the study of measures found to rank best."""
NEW_HOLDOUTS: Holdouts = "fixed"
"""How hold-outs are weighted where nobody has said it."""


class DSS(Synthesizer):
    """Gradient descent on pixels, with loss coefficients drawn for each batch (equations 3-6, 8).

    Stored of every image: the coefficients of its batch, and what class, feature and TV term and
    their weighted sum were in the last iteration, before its step.

    Args:
        iterations: optimisation steps per batch.
        learning_rate: Adam's, up to 1e6.
        jitter: largest shift per axis, in pixels.
        labels: how artificial labels are assigned; see `draw_labels`.
        coefficients: how the loss terms are weighted.
        schedule: of the learning rate over the iterations of a batch: ``constant``, as in the
            paper, or ``cosine``, which needs fewer of them.
        warmup: share of the iterations, in [0, 1], in which the rate rises linearly to the whole;
            0.3 with ``cosine`` is the one-cycle policy (Smith and Topin 2019).
        holdout: how the loss terms are weighted for hold-out images: ``fixed``, by 1 for the class
            and 0.1 for the features (equation 6), or ``alike``, as for the others. Students that
            are compared by fixed ones are ranked more as real attacks do. None is ``fixed``; of a
            data set that an earlier release began, it is what that one took, ``alike``.

    Raises:
        InputError: for an option that cannot be.
    """

    name: ClassVar[str] = "dss"
    columns: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(ALPHAS, "float64"),
        **dict.fromkeys(LOSSES, "float32"),
    }
    state_type: ClassVar[type[BatchState] | None] = InversionState
    accelerated: ClassVar[bool] = True
    recorded_as: ClassVar[Mapping[str, Any]] = {"holdout": "alike"}

    def __init__(
        self,
        *,
        iterations: int = 2000,
        learning_rate: float | int = 0.1,
        jitter: int = 2,
        labels: LabelRule = "per_batch",
        coefficients: CoefficientSampler = DIVERSIFIED,
        schedule: Rates = "constant",
        warmup: float | int = 0.0,
        holdout: Holdouts | None = None,
    ) -> None:
        self.iterations = at_least(1, iterations, "iterations")
        self.learning_rate = positive(learning_rate, "learning_rate", most=1e6)
        self.jitter = at_least(0, jitter, "jitter")
        one_of(get_args(LabelRule), labels, "labels")
        self.labels: LabelRule = labels
        self.coefficients = coefficients
        one_of(get_args(Rates), schedule, "schedule")
        self.schedule: Rates = schedule
        self.warmup = share(warmup, "warmup")
        if holdout is not None:
            one_of(get_args(Holdouts), holdout, "holdout")
        self.holdout: Holdouts | None = holdout

    def learning_rates(self) -> list[float]:
        """Return the learning rate of every iteration."""
        schedule = SCHEDULES.make(self.schedule, warmup=self.warmup)
        return [
            self.learning_rate * schedule.factor(iteration, self.iterations)
            for iteration in range(self.iterations)
        ]

    def bind(
        self,
        teacher: Classifier,
        *,
        acceleration: Acceleration | None = None,
        full_pass: tuple[int, int] | None = None,
    ) -> "Inversion":
        """Return the inversion of a teacher with these options."""
        return Inversion(teacher, acceleration=acceleration, full_pass=full_pass, **vars(self))

    def work(self, num_images: int) -> float:
        """Return the passes of all iterations; back to the pixels costs another forward pass."""
        return 2.0 * num_images * self.iterations


class Inversion(BoundSynthesizer):
    """Diversified sample synthesis (first half of Algorithm 1; equations 3 to 6 and 8).

    Each batch starts from ``N(0, 1)`` noise in the teacher's normalised space and takes
    ``iterations`` steps of Adam (betas 0.9 and 0.999, fresh state) on
    ``alpha_class L_class + alpha_feature L_feature + alpha_tv L_tv`` of the images rolled by a
    random shift that the whole batch shares. The *last* iterate is kept: a "best" one would compare
    losses under different shifts. It is denormalised and clipped to [0, 1].

    Args:
        teacher: the classifier to invert; see `BoundSynthesizer`.
        acceleration: how it may be computed faster; see `BatchedInversion`.
        full_pass: see `Synthesizer.bind`.
        options: as `DSS` takes them.

    Raises:
        InputError: if the teacher has no BatchNorm layer with running statistics, weights that are
            not float32, or probabilities for logits; and as `BoundSynthesizer` and `DSS` do.

    Attributes:
        method: the options.
    """

    def __init__(
        self,
        teacher: Classifier,
        *,
        acceleration: Acceleration | None = None,
        full_pass: tuple[int, int] | None = None,
        **options: Any,
    ) -> None:
        self.method = DSS(**options)
        super().__init__(teacher, iterations=self.method.iterations)
        require_hardenable(self.teacher)
        self.acceleration = acceleration or Acceleration()
        self.full_pass = full_pass
        self._learning_rates = self.method.learning_rates()
        self._batched: dict[tuple[int, int], BatchedInversion] = {}
        self._graphed: dict[int, GraphedGradient] = {}

    def _make(
        self,
        seed: int,
        batches: Sequence[int],
        size: int,
        stream: RngStream,
        resume: BatchState | None,
        on_iteration: OnIteration | None,
    ) -> list[SynthesizedBatch]:
        draws = self._draws(seed, stream, batches, size, self.iterations)
        if not isinstance(resume, InversionState | None):
            raise InputError(f"resume: {type(resume).__name__} is the state of another synthesizer")
        pixels, losses = self._optimise(draws, resume=resume, on_iteration=on_iteration)
        images = torch.split(self.teacher.denormalise(pixels).clamp(0.0, 1.0).cpu(), size)
        # Before clipping, which would hide infinite pixels. Losses overflow before pixels do.
        for batch, made, loss in zip(batches, torch.split(pixels, size), losses, strict=True):
            if not (torch.isfinite(made).all() and torch.isfinite(loss).all()):
                raise DfshieldError(
                    f"batch {batch}: the synthesis diverged (pixels or losses are not finite); "
                    "lower learning_rate or the scales of the coefficients (synthesis.method)"
                )
        return [
            SynthesizedBatch(
                images=of_batch.contiguous(),
                labels=torch.from_numpy(draw.labels),
                record=_record(draw, loss),
            )
            for of_batch, draw, loss in zip(images, draws, losses.cpu(), strict=True)
        ]

    def trial_ways(
        self, *, seed: int, num_batches: int, size: int, iterations: int, alone: bool = False
    ) -> Ways:
        """Return the ways to optimise the first batches of a run; see `BoundSynthesizer`.

        More iterations than a batch has go on at the last one's learning rate.
        """
        draws = self._draws(seed, RngStream.SYNTHESIS, range(num_batches), size, iterations)
        rates = self._learning_rates
        rates = [*rates, *rates[-1:] * (iterations - len(rates))]
        return inversion_ways(self.teacher.network, draws, learning_rate=rates, alone=alone)

    def _draws(
        self, seed: int, stream: RngStream, batches: Sequence[int], size: int, iterations: int
    ) -> list[BatchDraws]:
        method, held = self.method, stream is RngStream.HOLDOUT
        fixed = held and (method.holdout or NEW_HOLDOUTS) == "fixed"
        return [
            draw_batch(
                seed=seed,
                stream=stream,
                batch=batch,
                size=size,
                image_shape=self.teacher.input_shape,
                num_classes=self.teacher.num_classes,
                labels="balanced" if held else method.labels,
                coefficients=FIXED if fixed else method.coefficients,
                jitter=method.jitter,
                iterations=iterations,
            )
            for batch in batches
        ]

    def _optimise(
        self,
        draws: list[BatchDraws],
        *,
        resume: InversionState | None,
        on_iteration: OnIteration | None,
    ) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "g 4"]]:
        """Optimise the batches of one pass, on the plain path if that is all that is asked for."""
        shape = (len(draws), len(draws[0].labels))
        whole = self.full_pass in (None, shape)
        if self.acceleration.plain and len(draws) == 1:
            pixels, losses = optimise(
                self.teacher.network,
                draws[0],
                learning_rate=self._learning_rates,
                device=self.teacher.mean.device,
                resume=resume,
                on_iteration=on_iteration,
                gradient=self._replayed(shape[1]) if whole else None,
            )
            return pixels, losses[None]
        if shape not in self._batched:
            acceleration = self.acceleration
            if not whole:
                acceleration = replace(acceleration, compiled=False, graphed=False)
            self._batched[shape] = BatchedInversion(
                self.teacher.network,
                groups=shape[0],
                size=shape[1],
                image_shape=self.teacher.input_shape,
                acceleration=acceleration,
            )
        return self._batched[shape].optimise(
            draws, learning_rate=self._learning_rates, resume=resume, on_iteration=on_iteration
        )

    def _replayed(self, size: int) -> GraphedGradient | None:
        """Return the gradient of a batch from a CUDA graph, if that is asked for."""
        if not self.acceleration.graphed:
            return None
        if size not in self._graphed:
            self._graphed[size] = GraphedGradient(
                self.teacher.network, size=size, image_shape=self.teacher.input_shape
            )
        return self._graphed[size]


def _record(draws: BatchDraws, losses: Float[Tensor, "4"]) -> dict[str, np.ndarray]:
    """Return the own columns of a batch, one value each."""
    values = zip(DSS.columns, [*draws.coefficients, *losses.numpy()], strict=True)
    return {name: np.array(value, DSS.columns[name]) for name, value in values}
