"""The inversion as the engine trial computes it: plainly, in float64, and in each faster way."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace

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
from dfshield.synthesis.losses import FeatureStatistics
from dfshield.synthesis.plain import InversionState, gradient_of, optimise


def inversion_ways(
    network: nn.Module, draws: Sequence[BatchDraws], *, learning_rate: float | Sequence[float]
) -> Ways:
    """Return the ways to optimise the batches of a pass.

    The plain one is that of a run: a single batch goes the plain path, several share a pass.

    Args:
        network: takes normalised images; in eval mode, weights frozen, on the device of choice.
        draws: of every batch; as many iterations as their shifts can be done.
        learning_rate: Adam's; one for all iterations, or one for each.
    """

    def shared(acceleration: Acceleration) -> _SharedPass:
        return _SharedPass(network, draws, learning_rate, acceleration)

    plain = _PlainPass(network, draws, learning_rate) if len(draws) == 1 else shared(Acceleration())
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


class _PlainPass(_Pass):
    """One batch, on the plain path."""

    def _gradient(self, pixels: Tensor, iteration: int) -> tuple[Tensor, Tensor]:
        return _plain_gradient(self._network, pixels, self._draws[0], iteration)

    def _optimise(
        self, draws: Sequence[BatchDraws], resume: InversionState | None, keep: OnIteration
    ) -> tuple[Tensor, Tensor]:
        return optimise(
            self._network,
            draws[0],
            learning_rate=self._learning_rate,
            device=self._device,
            resume=resume,
            on_iteration=keep,
        )


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
        found = [
            _plain_gradient(self._network, of_batch, draws, done)
            for of_batch, draws in zip(
                pixels.to(self._device, torch.float64).chunk(len(self._draws)),
                self._draws,
                strict=True,
            )
        ]
        gradients, losses = zip(*found, strict=True)
        return Answer(torch.cat(gradients).flatten(), torch.cat(losses))


def _standing(state: object, draws: Sequence[BatchDraws]) -> tuple[Float[Tensor, "n c h w"], int]:
    """Return the pixels at a state, and how many iterations are done."""
    if state is None:
        return torch.cat([torch.from_numpy(of_batch.noise) for of_batch in draws]), 0
    assert isinstance(state, InversionState)
    return state.pixels, state.iteration


def _plain_gradient(
    network: nn.Module, pixels: Tensor, draws: BatchDraws, iteration: int
) -> tuple[Tensor, Tensor]:
    statistics = FeatureStatistics(network)
    with statistics.recording():
        return gradient_of(
            network,
            statistics,
            pixels.detach().requires_grad_(),
            labels=torch.from_numpy(draws.labels).to(pixels.device),
            weights=torch.tensor(draws.coefficients, dtype=pixels.dtype, device=pixels.device),
            shift=draws.shifts[iteration].tolist(),
        )
