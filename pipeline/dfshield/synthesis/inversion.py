"""The inversion engine: images from a classifier by gradient descent on the pixels."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dfshield.classifiers import Classifier, require_batchnorm
from dfshield.errors import DfshieldError, InputError
from dfshield.seeds import Stage
from dfshield.synthesis.coefficients import Coefficients, CoefficientSampler
from dfshield.synthesis.draws import BatchDraws, LabelRule, draw_batch
from dfshield.synthesis.losses import FeatureStatistics, class_prior_loss, total_variation


@dataclass(frozen=True, eq=False)
class SynthesizedBatch:
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


@dataclass(frozen=True, eq=False)
class InversionState:
    """Where the optimisation of a batch stands: all that its remaining iterations depend on.

    Attributes:
        iteration: how many iterations are done.
        pixels: in the teacher's normalised space.
        optimizer: Adam's ``state_dict``.
        losses: as in `SynthesizedBatch`, of the last iteration.
    """

    iteration: int
    pixels: Float[Tensor, "n c h w"]
    optimizer: dict[str, Any]
    losses: Float[Tensor, "4"]


OnIteration = Callable[[int, Callable[[], InversionState]], None]
"""Called after each iteration with the number of those done, and with what tells the state then.

The state shares memory with the work that goes on."""


class Inversion:
    """Diversified sample synthesis (first half of Algorithm 1; equations 3 to 6 and 8).

    Each batch starts from ``N(0, 1)`` noise in the teacher's normalised space and takes
    ``iterations`` steps of Adam (betas 0.9 and 0.999, constant learning rate, fresh state) on
    ``alpha_class L_class + alpha_feature L_feature + alpha_tv L_tv`` of the images rolled by a
    random shift that the whole batch shares. The *last* iterate is kept: a "best" one would compare
    losses under different shifts. It is denormalised and clipped to [0, 1].

    Args:
        teacher: the classifier to invert. It is used as it is: switch it to eval mode on the device
            of choice and do not train it meanwhile. Its weights are frozen here.
        iterations: optimisation steps per batch.
        learning_rate: Adam's.
        jitter: largest shift per axis, in pixels.
        labels: how artificial labels are assigned.
        coefficients: how the loss terms are weighted.

    Raises:
        InputError: if the teacher has no BatchNorm layer with running statistics, or for an unknown
            rule of the labels.
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
    ) -> None:
        require_batchnorm(teacher)
        if labels not in get_args(LabelRule):
            known = ", ".join(get_args(LabelRule))
            raise InputError(f"labels: {labels!r} is unknown: known are {known}")
        self.teacher = teacher.eval().requires_grad_(False)
        self.iterations = iterations
        self.learning_rate = learning_rate
        self.jitter = jitter
        self.labels: LabelRule = labels
        self.coefficients = coefficients or CoefficientSampler()

    def synthesize(
        self,
        *,
        seed: int,
        batch: int,
        size: int = 200,
        stage: Stage = Stage.SYNTHESIS,
        resume: InversionState | None = None,
        on_iteration: OnIteration | None = None,
    ) -> SynthesizedBatch:
        """Return batch number ``batch`` of a run: the same images whatever was made before.

        Args:
            seed: the run's seed.
            batch: global index of the batch.
            size: images in it.
            stage: ``SYNTHESIS`` or ``HOLDOUT``. The hold-out is class-balanced under every rule.
            resume: go on from here; the images are those of an optimisation that never stopped.
            on_iteration: called after each iteration; see `OnIteration`.

        Raises:
            DfshieldError: if the optimisation diverges.
        """
        draws = draw_batch(
            seed=seed,
            stage=stage,
            batch=batch,
            size=size,
            image_shape=self.teacher.input_shape,
            num_classes=self.teacher.num_classes,
            labels="balanced" if stage is Stage.HOLDOUT else self.labels,
            coefficients=self.coefficients,
            jitter=self.jitter,
            iterations=self.iterations,
        )
        pixels, losses = optimise(
            self.teacher.network,
            draws,
            learning_rate=self.learning_rate,
            device=self.teacher.mean.device,
            resume=resume,
            on_iteration=on_iteration,
        )
        # Before clipping, which would hide infinite pixels. Losses overflow before pixels do.
        if not (torch.isfinite(pixels).all() and torch.isfinite(losses).all()):
            raise DfshieldError(
                f"batch {batch}: the synthesis diverged (pixels or losses are not finite); "
                "lower synthesis.learning_rate or the coefficient scales"
            )
        images = self.teacher.denormalise(pixels).clamp(0.0, 1.0).cpu()
        return SynthesizedBatch(
            images=images,
            labels=torch.from_numpy(draws.labels),
            coefficients=draws.coefficients,
            losses=losses.cpu(),
        )


def optimise(
    network: nn.Module,
    draws: BatchDraws,
    *,
    learning_rate: float,
    device: torch.device,
    resume: InversionState | None = None,
    on_iteration: OnIteration | None = None,
) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "4"]]:
    """Run the optimisation of one batch and return its pixels in normalised space and last losses.

    Args:
        network: takes normalised images; in eval mode, weights frozen.
        draws: the batch's random part; one iteration per row of ``draws.shifts``.
        learning_rate: Adam's.
        device: where ``network`` lies.
        resume: the state to go on from.
        on_iteration: called after each iteration; see `OnIteration`.
    """
    # A copy: on the CPU the tensor would share memory with the draws, which Adam would overwrite.
    start = torch.tensor(draws.noise) if resume is None else resume.pixels.clone()
    pixels = start.to(device).requires_grad_()
    labels = torch.from_numpy(draws.labels).to(device)
    weights = torch.tensor(draws.coefficients, dtype=torch.float32, device=device)
    optimizer = torch.optim.Adam([pixels], lr=learning_rate, betas=(0.9, 0.999))
    statistics = FeatureStatistics(network)
    losses = torch.zeros(4, device=device)
    done = 0
    if resume is not None:
        optimizer.load_state_dict(copy.deepcopy(resume.optimizer))
        losses, done = resume.losses.to(device), resume.iteration

    def state() -> InversionState:
        return InversionState(done, pixels.detach(), optimizer.state_dict(), losses)

    with statistics.recording():
        for down, right in draws.shifts[done:].tolist():
            shifted = torch.roll(pixels, (down, right), dims=(2, 3))
            logits = network(shifted)
            terms = torch.stack(
                [
                    class_prior_loss(logits, labels),
                    statistics.loss(),
                    total_variation(shifted),
                ]
            )
            total = (weights * terms).sum()
            (pixels.grad,) = torch.autograd.grad(total, [pixels])
            optimizer.step()
            losses = torch.cat([terms, total[None]]).detach()
            done += 1
            if on_iteration is not None:
                on_iteration(done, state)
    return pixels.detach(), losses
