"""What synthesizers with a generator network share: its fit, step by step, and sampling from it."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dfshield.classifiers import Classifier, gradients, load_state, require_hardenable
from dfshield.errors import DfshieldError, InputError, one_line
from dfshield.seeds import RngStream, generator
from dfshield.synthesis.base import (
    BatchState,
    BoundSynthesizer,
    OnIteration,
    SynthesizedBatch,
    frozen_copy,
)
from dfshield.synthesis.fit import GeneratorFit
from dfshield.synthesis.generator_network import GeneratorNetwork

EQUAL = 1 / 510
"""Pixels that differ by less, half a step of 8 bits, are taken for equal."""


def collapsed(images: Float[Tensor, "n c h w"]) -> bool:
    """Return whether all images of a batch, two or more, are equal."""
    if len(images) < 2:
        return False
    return bool((images.amax(dim=0) - images.amin(dim=0)).amax() < EQUAL)


class NetworkFit(GeneratorFit):
    """The fit of a `GeneratorNetwork` by Adam with a constant learning rate.

    A subclass writes :meth:`_losses`. Step t draws from the generator of
    ``(seed, GENERATOR, t)``, t from 1.

    Args:
        teacher: see `BoundSynthesizer`.
        network: the generator, at its beginning, on the CPU.
        seed: of the run.
        steps: how many there are.
        learning_rate: Adam's.
        betas: Adam's.

    Raises:
        InputError: if nothing can be fitted to this teacher.

    Attributes:
        teacher: a copy, its weights frozen.
        network: the generator, in train mode.
    """

    def __init__(
        self,
        teacher: Classifier,
        network: GeneratorNetwork,
        *,
        seed: int,
        steps: int,
        learning_rate: float,
        betas: tuple[float, float],
    ) -> None:
        self.steps, self.steps_done = steps, 0
        self.teacher = frozen_copy(teacher)
        require_hardenable(self.teacher)
        self.network = network.to(self.device).train()
        self._seed = seed
        fitted = [weight for weight in self.network.parameters() if weight.requires_grad]
        self._adam = torch.optim.Adam(fitted, lr=learning_rate, betas=betas)

    @property
    def device(self) -> torch.device:
        """Where the teacher lies."""
        return self.teacher.mean.device

    @abstractmethod
    def _losses(
        self, draw: np.random.Generator
    ) -> tuple[Float[Tensor, "n c h w"], dict[str, Float[Tensor, ""]]]:
        """Return the images of a step and its losses by name, ``loss`` being what is minimised."""

    def step(self) -> dict[str, float]:
        """Do the next step; see `GeneratorFit`.

        Raises:
            DfshieldError: if a loss is not finite or all images are equal, naming the step.
        """
        number = self.steps_done + 1
        with gradients():
            images, losses = self._losses(generator(self._seed, RngStream.GENERATOR, number))
            self._adam.zero_grad()
            losses["loss"].backward()  # type: ignore[no-untyped-call]
        found = {name: loss.item() for name, loss in losses.items()}
        for name, value in found.items():
            if not np.isfinite(value):
                raise self._failed(number, f"{name} is {value}")
        if collapsed(images.detach()):
            raise self._failed(number, f"it has collapsed: all {len(images)} images are equal")
        self._adam.step()
        self.steps_done = number
        return found

    def _failed(self, step: int, why: str) -> DfshieldError:
        return DfshieldError(
            f"step {step} of the fit of the generator: {why}; lower learning_rate "
            "(synthesis.method)"
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what the remaining steps depend on; see `GeneratorFit`."""
        return {
            "done": self.steps_done,
            "network": self.weights(),
            "adam": self._adam.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.steps_done = state["done"]
        load_state(self.network, state["network"])
        self._adam.load_state_dict(deepcopy(state["adam"]))

    def weights(self) -> dict[str, Tensor]:
        """Return copies of the generator's weights and buffers on the CPU."""
        state = self.network.state_dict()
        return {
            name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, value in state.items()
        }


class GeneratorSampler(BoundSynthesizer):
    """Samples of a generator that has been fitted, in eval mode, so that no image touches another.

    A subclass writes :meth:`_sampled`.

    Args:
        teacher: see `BoundSynthesizer`.
        network: the generator, of any weights.
        weights: those that it is to have.

    Raises:
        InputError: if the weights are not of such a generator.
    """

    def __init__(
        self, teacher: Classifier, network: GeneratorNetwork, weights: Mapping[str, Tensor]
    ) -> None:
        super().__init__(teacher)
        try:
            load_state(network, weights)
        except RuntimeError as error:
            raise InputError(
                f"weights: are not those of this generator: {one_line(error)}"
            ) from None
        self.network = network.to(self.device).eval().requires_grad_(False)

    @property
    def device(self) -> torch.device:
        """Where the teacher lies."""
        return self.teacher.mean.device

    @abstractmethod
    def _sampled(
        self, draw: np.random.Generator, *, stream: RngStream, batch: int, size: int
    ) -> SynthesizedBatch:
        """Return a batch; called without gradients."""

    def _make(
        self,
        seed: int,
        batches: Sequence[int],
        size: int,
        stream: RngStream,
        resume: BatchState | None,
        on_iteration: OnIteration | None,
    ) -> list[SynthesizedBatch]:
        del resume, on_iteration  # there are no iterations
        made = []
        for batch in batches:
            with torch.no_grad():
                draw = generator(seed, stream, batch)
                made.append(self._sampled(draw, stream=stream, batch=batch, size=size))
            if collapsed(made[-1].images):
                raise DfshieldError(
                    f"batch {batch}: the generator has collapsed: all {size} images are equal; fit "
                    "it with other settings (synthesis.method), under another name"
                )
        return made
