"""The inversion as the engine trial computes it: plainly, in float64, and in each faster way."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfshield.engine.acceleration import Acceleration
from dfshield.engine.peak_memory import PeakMemory
from dfshield.engine.trial import Ways
from dfshield.engine.trial_checks import Answer, Outcome
from dfshield.synthesis.base import BatchState, OnIteration
from dfshield.synthesis.batched import BatchedInversion
from dfshield.synthesis.draws import BatchDraws
from dfshield.synthesis.graphed import GraphedGradient
from dfshield.synthesis.plain import BatchGradient, InversionState, gradient_for, optimise

_MOMENTS = ("exp_avg", "exp_avg_sq")
"""What Adam keeps of every pixel."""


def inversion_ways(
    network: nn.Module,
    draws: Sequence[BatchDraws],
    *,
    learning_rate: float | Sequence[float],
    alone: bool = False,
) -> Ways:
    """Return the ways to optimise some batches.

    The plain one is that of a run: batches that go alone take the plain path.

    Args:
        network: takes normalised images; in eval mode, weights frozen, on the device of choice.
        draws: of every batch; as many iterations as their shifts can be done.
        learning_rate: Adam's; one for all iterations, or one for each.
        alone: whether the plain way takes one batch after the other, though the faster ones let
            them share a pass; a single batch always goes alone.
    """

    def shared(acceleration: Acceleration) -> _Pass:
        if acceleration.graphed and len(draws) == 1:
            return _PlainPasses(network, draws, learning_rate, graphed=True)
        return _SharedPass(network, draws, learning_rate, acceleration)

    alone = alone or len(draws) == 1
    plain = _PlainPasses(network, draws, learning_rate) if alone else shared(Acceleration())
    return Ways(plain, _ExactPass(network, draws), shared)


class _Pass(ABC):
    """What the ways that go on from a state have in common."""

    def __init__(
        self,
        network: nn.Module,
        draws: Sequence[BatchDraws],
        learning_rate: float | Sequence[float],
    ) -> None:
        self._network, self._draws, self._learning_rate = network, draws, learning_rate
        self._device = next(network.parameters()).device

    def begin(self) -> None:
        """Begin to watch the memory."""
        self._memory = PeakMemory(self._device)

    def answer(self, state: object) -> Answer:
        """Return the gradient with respect to the pixels, and the terms of every batch."""
        pixels, done = _standing(state, self._draws)
        gradient, losses = self._gradient(pixels.to(self._device), done)
        return Answer(gradient.flatten(), losses.flatten())

    def run(self, state: object, steps: int) -> Outcome:
        """Do some iterations; the total is that of all batches."""
        assert isinstance(state, InversionState | None)
        end = steps + (state.iteration if state is not None else 0)
        draws = [replace(of_batch, shifts=of_batch.shifts[:end]) for of_batch in self._draws]
        reached: list[BatchState] = []

        def keep(done: int, state_now: Callable[[], BatchState]) -> None:
            if done == end:
                reached.append(state_now())

        pixels, losses = self._optimise(draws, state, keep)
        return Outcome(reached[0], (pixels,), total=float(losses[..., -1].sum()))

    def peak_bytes(self) -> int | None:
        """Return the most memory held since `begin`."""
        return self._memory.bytes()

    @abstractmethod
    def _gradient(self, pixels: Tensor, iteration: int) -> tuple[Tensor, Tensor]:
        """Return gradient and losses, with the shifts of an iteration."""

    @abstractmethod
    def _optimise(
        self, draws: Sequence[BatchDraws], resume: InversionState | None, keep: OnIteration
    ) -> tuple[Tensor, Tensor]:
        """Go on from a state; see `optimise`."""


class _PlainPasses(_Pass):
    """One batch after the other, on the plain path; its kernels may be replayed from a graph."""

    def __init__(
        self,
        network: nn.Module,
        draws: Sequence[BatchDraws],
        learning_rate: float | Sequence[float],
        *,
        graphed: bool = False,
    ) -> None:
        super().__init__(network, draws, learning_rate)
        self._graphed = graphed
        self._replayed: BatchGradient | None = None

    def begin(self) -> None:
        """Record the gradient, if it is to be replayed."""
        super().begin()
        if self._graphed:
            size, channels, height, width = self._draws[0].noise.shape
            self._replayed = GraphedGradient(
                self._network, size=size, image_shape=(channels, height, width)
            )

    def _gradient(self, pixels: Tensor, iteration: int) -> tuple[Tensor, Tensor]:
        return _one_by_one(self._network, pixels, self._draws, iteration, self._replayed)

    def _optimise(
        self, draws: Sequence[BatchDraws], resume: InversionState | None, keep: OnIteration
    ) -> tuple[Tensor, Tensor]:
        before = [None] * len(draws) if resume is None else _split(resume, len(draws))
        reached: list[InversionState] = []
        losses = []
        for of_batch, state in zip(draws, before, strict=True):

            def note(done: int, state_now: Callable[[], BatchState], end: int) -> None:
                if done == end:
                    now = state_now()
                    assert isinstance(now, InversionState)
                    reached.append(now)

            _, found = optimise(
                self._network,
                of_batch,
                learning_rate=self._learning_rate,
                device=self._device,
                resume=state,
                on_iteration=partial(note, end=len(of_batch.shifts)),
                gradient=self._replayed,
            )
            losses.append(found)
        joined = _joined(reached)
        keep(joined.iteration, lambda: joined)
        return joined.pixels, torch.stack(losses)


class _SharedPass(_Pass):
    """One or more batches in a pass, with an acceleration."""

    def __init__(
        self,
        network: nn.Module,
        draws: Sequence[BatchDraws],
        learning_rate: float | Sequence[float],
        acceleration: Acceleration,
    ) -> None:
        super().__init__(network, draws, learning_rate)
        self._acceleration = acceleration

    def begin(self) -> None:
        """Build and, if so accelerated, compile the pass."""
        super().begin()
        size, *shape = self._draws[0].noise.shape
        channels, height, width = shape
        self._inversion = BatchedInversion(
            self._network,
            groups=len(self._draws),
            size=size,
            image_shape=(channels, height, width),
            acceleration=self._acceleration,
        )

    def _gradient(self, pixels: Tensor, iteration: int) -> tuple[Tensor, Tensor]:
        return self._inversion.gradient_at(pixels, self._draws, iteration)

    def _optimise(
        self, draws: Sequence[BatchDraws], resume: InversionState | None, keep: OnIteration
    ) -> tuple[Tensor, Tensor]:
        return self._inversion.optimise(
            draws, learning_rate=self._learning_rate, resume=resume, on_iteration=keep
        )


class _ExactPass:
    """The batches one after the other, in float64."""

    def __init__(self, network: nn.Module, draws: Sequence[BatchDraws]) -> None:
        self._given, self._draws = network, draws

    def begin(self) -> None:
        """Copy the network."""
        self._network = copy.deepcopy(self._given).double()
        self._device = next(self._network.parameters()).device

    def answer(self, state: object) -> Answer:
        """Return the gradient with respect to the pixels, and the terms of every batch."""
        pixels, done = _standing(state, self._draws)
        pixels = pixels.to(self._device, torch.float64)
        gradient, losses = _one_by_one(self._network, pixels, self._draws, done)
        return Answer(gradient.flatten(), losses.flatten())


def _standing(state: object, draws: Sequence[BatchDraws]) -> tuple[Float[Tensor, "n c h w"], int]:
    """Return the pixels at a state, and how many iterations are done."""
    if state is None:
        return torch.cat([torch.from_numpy(of_batch.noise) for of_batch in draws]), 0
    assert isinstance(state, InversionState)
    return state.pixels, state.iteration


def _joined(states: Sequence[InversionState]) -> InversionState:
    """Return the states of batches that stand equally far as that of a pass that they share."""
    adams = [state.optimizer["state"][0] for state in states]
    moments = {key: torch.cat([adam[key] for adam in adams]) for key in _MOMENTS}
    return replace(
        states[0],
        pixels=torch.cat([state.pixels for state in states]),
        optimizer={**states[0].optimizer, "state": {0: {**adams[0], **moments}}},
        losses=torch.stack([state.losses for state in states]),
    )


def _split(state: InversionState, groups: int) -> list[InversionState]:
    """Return the states of the batches that `_joined` has joined."""
    adam = state.optimizer["state"][0]
    return [
        replace(
            state,
            pixels=state.pixels.chunk(groups)[i],
            optimizer={
                **state.optimizer,
                "state": {0: {**adam, **{key: adam[key].chunk(groups)[i] for key in _MOMENTS}}},
            },
            losses=state.losses[i],
        )
        for i in range(groups)
    ]


def _one_by_one(
    network: nn.Module,
    pixels: Tensor,
    draws: Sequence[BatchDraws],
    iteration: int,
    gradient: BatchGradient | None = None,
) -> tuple[Float[Tensor, "gn c h w"], Float[Tensor, "g 4"]]:
    """Return the gradient of batches, one after the other, and the losses of each."""
    found = []
    with gradient_for(network, gradient) as gradient_here:
        for of_batch, one in zip(pixels.chunk(len(draws)), draws, strict=True):
            made, losses = gradient_here(
                of_batch.detach().requires_grad_(),
                labels=torch.from_numpy(one.labels).to(pixels.device),
                weights=torch.tensor(one.coefficients, dtype=pixels.dtype, device=pixels.device),
                shift=one.shifts[iteration].tolist(),
            )
            found.append((made, losses))
    gradients, of_batches = zip(*found, strict=True)
    return torch.cat(gradients), torch.stack(of_batches)
