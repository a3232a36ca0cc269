"""IntraQ: direct optimisation that keeps the images of a class apart (Zhong et al., CVPR 2022)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dfshield.checks import at_least, non_negative, one_of, positive, share
from dfshield.classifiers import Classifier, require_hardenable
from dfshield.engine.acceleration import Acceleration
from dfshield.errors import InputError
from dfshield.seeds import RngStream
from dfshield.synthesis.base import (
    BatchState,
    BoundSynthesizer,
    OnIteration,
    SynthesizedBatch,
    Synthesizer,
)
from dfshield.synthesis.draws import LabelRule
from dfshield.synthesis.intraq_descent import Descent, DescentOptions

LOSSES = ("loss_class", "loss_feature", "loss_margin", "loss_total")


@dataclass(frozen=True, eq=False, repr=False)
class IntraQState(BatchState):
    """Where the optimisation of a pass stands.

    Attributes:
        batches: what `Descent.state` returned of each batch.
    """

    batches: list[dict[str, Any]]


class IntraQ(Synthesizer):
    """Gradient descent on pixels with IntraQ's losses, which keep the images of a class apart.

    Images start from ``N(0, 1)`` in the teacher's normalised space. Minimised is the sum of the
    soft inception loss, the marginal distance (see `soft_inception_loss`, `marginal_distance`) and
    the distance of BatchNorm statistics (`SquaredStatistics`), by Adam whose learning rate falls to
    a tenth where the loss has not fallen for a while; local object reinforcement crops some images
    before each iteration. The last iterate is denormalised and clipped.

    Choices of ours: the centre of a class is the mean of its images in the batch, averaged over the
    iterations, so that a batch depends on no other; soft targets are drawn once an image; crops are
    drawn for every image; all three losses have weight 1 and are means over the batch.

    Stored of every image: its soft target, and what the losses were in the last iteration of its
    batch, before its step.

    Args:
        iterations: optimisation steps per batch.
        learning_rate: Adam's at first, up to 1e6.
        min_learning_rate: where its decay ends.
        patience: iterations without a lower loss before it falls.
        labels: how artificial labels are assigned; see `draw_labels`.
        soft_target: lowest soft target, a probability.
        soft_share: the probability that an image has a soft target, ``U(soft_target, 1)``; the
            target of the others is 1.
        lower: smallest cosine distance from the centre of the class that costs nothing, up to 2.
        upper: largest such distance, up to 2.
        centre_momentum: share of the centre before in that of an iteration.
        crop_share: the probability that an image is cropped and, half of these, flipped.
        crop_scale: smallest area of a crop, as a share of the image.
        layer: dotted name of the layer whose input the features are; None: the last linear or
            convolutional layer with one channel a class.

    Raises:
        InputError: for an option that cannot be.
    """

    name: ClassVar[str] = "intraq"
    columns: ClassVar[Mapping[str, str]] = {
        "soft_target": "float64",
        **dict.fromkeys(LOSSES, "float32"),
    }
    state_type: ClassVar[type[BatchState] | None] = IntraQState

    def __init__(
        self,
        *,
        iterations: int = 1000,
        learning_rate: float | int = 0.5,
        min_learning_rate: float | int = 1e-4,
        patience: int = 50,
        labels: LabelRule = "random",
        soft_target: float | int = 0.95,
        soft_share: float | int = 0.5,
        lower: float | int = 0.05,
        upper: float | int = 0.8,
        centre_momentum: float | int = 0.9,
        crop_share: float | int = 0.5,
        crop_scale: float | int = 0.5,
        layer: str | None = None,
    ) -> None:
        self.iterations = at_least(1, iterations, "iterations")
        self.learning_rate = positive(learning_rate, "learning_rate", most=1e6)
        self.min_learning_rate = non_negative(min_learning_rate, "min_learning_rate")
        self.patience = at_least(0, patience, "patience")
        one_of(get_args(LabelRule), labels, "labels")
        self.labels: LabelRule = labels
        self.soft_target = share(soft_target, "soft_target")
        self.soft_share = share(soft_share, "soft_share")
        self.lower, self.upper = _distance(lower, "lower"), _distance(upper, "upper")
        if self.lower > self.upper:
            raise InputError(f"upper: {upper!r} must be at least lower, which is {lower!r}")
        self.centre_momentum = share(centre_momentum, "centre_momentum")
        self.crop_share = share(crop_share, "crop_share")
        self.crop_scale = positive(crop_scale, "crop_scale", most=1.0)
        if not isinstance(layer, str | None):
            raise InputError(f"layer: {layer!r} must be the name of a layer")
        self.layer = layer

    def bind(
        self,
        teacher: Classifier,
        *,
        acceleration: Acceleration | None = None,
        full_pass: tuple[int, int] | None = None,
    ) -> "BoundIntraQ":
        """Return what optimises images of a teacher with these options."""
        del acceleration, full_pass  # there is no faster way
        return BoundIntraQ(teacher, DescentOptions(**vars(self)))

    def work(self, num_images: int) -> float:
        """Return the passes of all iterations; back to the pixels costs another forward pass."""
        return 2.0 * num_images * self.iterations


class BoundIntraQ(BoundSynthesizer):
    """IntraQ with its teacher. Batches of a pass are computed by turns, so none touches another.

    Args:
        teacher: the classifier to invert; see `BoundSynthesizer`.
        options: of the descent.

    Raises:
        InputError: if the teacher cannot be inverted, or has no such layer.
    """

    def __init__(self, teacher: Classifier, options: DescentOptions) -> None:
        super().__init__(teacher, iterations=options.iterations)
        require_hardenable(self.teacher)
        self._options = options

    def _make(
        self,
        seed: int,
        batches: Sequence[int],
        size: int,
        stream: RngStream,
        resume: BatchState | None,
        on_iteration: OnIteration | None,
    ) -> list[SynthesizedBatch]:
        if not isinstance(resume, IntraQState | None):
            raise InputError(f"resume: {type(resume).__name__} is the state of another synthesizer")
        descents = [
            Descent(self.teacher, self._options, seed=seed, stream=stream, batch=batch, size=size)
            for batch in batches
        ]
        if resume is not None:
            for descent, state in zip(descents, resume.batches, strict=True):
                descent.restore(state)

        for done in range(0 if resume is None else resume.iteration, self.iterations):
            for descent in descents:
                descent.step(done)
            if on_iteration is not None:
                on_iteration(done + 1, partial(_state, done + 1, descents))
        return [_finished(descent) for descent in descents]


def _state(done: int, descents: Sequence[Descent]) -> IntraQState:
    return IntraQState(done, [descent.state() for descent in descents])


def _finished(descent: Descent) -> SynthesizedBatch:
    losses = dict(zip(LOSSES, descent.losses.numpy(), strict=True))
    images: Float[Tensor, "n c h w"] = descent.images()
    labels: Int[Tensor, " n"] = torch.from_numpy(descent.draws.labels)
    record = {
        "soft_target": descent.draws.targets,
        **{name: np.array(value, IntraQ.columns[name]) for name, value in losses.items()},
    }
    return SynthesizedBatch(images=images, labels=labels, record=record)


def _distance(value: float | int, key: str) -> float:
    """Return ``value``, checked to be a cosine distance: a number in [0, 2].

    Raises:
        InputError: naming the key otherwise.
    """
    if non_negative(value, key) > 2:
        raise InputError(f"{key}: {value!r} must be a cosine distance, a number in [0, 2]")
    return float(value)
