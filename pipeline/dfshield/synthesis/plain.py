"""The plain path of the inversion: one batch, one operation after the other, in float32."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dfshield.classifiers import answer_of
from dfshield.synthesis.base import BatchState, OnIteration
from dfshield.synthesis.draws import BatchDraws
from dfshield.synthesis.losses import (
    FeatureStatistics,
    class_prior_loss,
    single_or_double,
    total_variation,
)


@dataclass(frozen=True, eq=False, repr=False)
class InversionState(BatchState):
    """Where the optimisation of a pass stands: all that its remaining iterations depend on.

    Attributes:
        pixels: in the teacher's normalised space, those of several batches one after the other.
        optimizer: Adam's ``state_dict``.
        losses: class, feature and TV term and their weighted sum in the last iteration.
    """

    pixels: Float[Tensor, "n c h w"]
    optimizer: dict[str, Any]
    losses: Float[Tensor, "*g 4"]


@runtime_checkable
class BatchGradient(Protocol):
    """What computes the gradient of a batch in every iteration."""

    def __call__(
        self,
        pixels: Float[Tensor, "n c h w"],
        *,
        labels: Int[Tensor, " n"],
        weights: Float[Tensor, "3"],
        shift: Sequence[int],
    ) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "4"]]:
        """Return the gradient and the losses; see `gradient_of`."""


def restore(
    resume: InversionState | None, optimizer: torch.optim.Optimizer, losses: Tensor
) -> tuple[Tensor, int]:
    """Return the last losses and how many iterations are done, with the optimizer as it was then.

    Where there is nothing to resume these are ``losses`` and 0. The optimizer's settings stay its
    own.
    """
    if resume is None:
        return losses, 0
    settings = {"param_groups": optimizer.state_dict()["param_groups"]}
    optimizer.load_state_dict(copy.deepcopy({**resume.optimizer, **settings}))
    return resume.losses.to(losses.device), resume.iteration


def rate_of(learning_rate: float | Sequence[float], iteration: int) -> float:
    """Return the learning rate of an iteration, of one for all or one for each."""
    return learning_rate[iteration] if isinstance(learning_rate, Sequence) else learning_rate


def gradient_of(
    network: nn.Module,
    statistics: FeatureStatistics,
    pixels: Float[Tensor, "n c h w"],
    *,
    labels: Int[Tensor, " n"],
    weights: Float[Tensor, "3"],
    shift: Sequence[int],
) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "4"]]:
    """Return the gradient of equation 6, and its terms and their weighted sum.

    Args:
        network: see `optimise`.
        statistics: of the network, recording.
        pixels: in normalised space, with respect to which the gradient is; they require one.
        labels: artificial ones.
        weights: of the three terms.
        shift: how far the images are rolled first, in pixels (down, right).
    """
    shifted = torch.roll(pixels, tuple(shift), dims=(2, 3))
    logits = answer_of(network, shifted)
    terms = torch.stack(
        [
            class_prior_loss(single_or_double(logits), labels),
            statistics.loss(),
            total_variation(shifted),
        ]
    )
    total = (weights * terms).sum()
    (gradient,) = torch.autograd.grad(total, [pixels])
    return gradient, torch.cat([terms, total[None]]).detach()


@contextmanager
def gradient_for(network: nn.Module, given: BatchGradient | None) -> Iterator[BatchGradient]:
    """Give what computes gradients within the block: what is given, or `gradient_of` a network."""
    if given is not None:
        yield given
        return
    statistics = FeatureStatistics(network)
    with statistics.recording():
        yield partial(gradient_of, network, statistics)


def optimise(
    network: nn.Module,
    draws: BatchDraws,
    *,
    learning_rate: float | Sequence[float],
    device: torch.device,
    resume: InversionState | None = None,
    on_iteration: OnIteration | None = None,
    gradient: BatchGradient | None = None,
) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "4"]]:
    """Run the optimisation of one batch and return its pixels in normalised space and last losses.

    The plain path: float32, one operation after the other, as the equations read.

    Args:
        network: takes normalised images; in eval mode, weights frozen.
        draws: the batch's random part; one iteration per row of ``draws.shifts``.
        learning_rate: Adam's; one for all iterations, or one for each.
        device: where ``network`` lies.
        resume: the state to go on from.
        on_iteration: called after each iteration; see `OnIteration`.
        gradient: computes what `gradient_of` does of this network; None is `gradient_of`.
    """
    # A copy: on the CPU the tensor would share memory with the draws, which Adam would overwrite.
    start = torch.tensor(draws.noise) if resume is None else resume.pixels.clone()
    pixels = start.to(device).requires_grad_()
    labels = torch.from_numpy(draws.labels).to(device)
    weights = torch.tensor(draws.coefficients, dtype=torch.float32, device=device)
    optimizer = torch.optim.Adam([pixels], lr=rate_of(learning_rate, 0), betas=(0.9, 0.999))
    losses, done = restore(resume, optimizer, torch.zeros(4, device=device))

    def state() -> InversionState:
        return InversionState(done, pixels.detach(), optimizer.state_dict(), losses)

    with gradient_for(network, gradient) as gradient_here:
        for shift in draws.shifts[done:].tolist():
            optimizer.param_groups[0]["lr"] = rate_of(learning_rate, done)
            pixels.grad, losses = gradient_here(pixels, labels=labels, weights=weights, shift=shift)
            optimizer.step()
            done += 1
            if on_iteration is not None:
                on_iteration(done, state)
    return pixels.detach(), losses
