"""A synthesizer with a generator that is fitted first, small enough for a test.

The generator has a linear map per class, ``x = sigmoid(W_y z + b_y)`` with ``z ~ N(0, I)``, and is
fitted to the class prior loss (equation 3).
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from dfshield.checks import at_least, positive
from dfshield.classifiers import Classifier
from dfshield.engine.acceleration import Acceleration
from dfshield.seeds import RngStream, generator
from dfshield.synthesis import (
    BatchState,
    BoundSynthesizer,
    FittedSynthesizer,
    GeneratorFit,
    OnIteration,
    SynthesizedBatch,
    class_prior_loss,
    draw_labels,
)

Weights = Mapping[str, Tensor]


def images_of(weights: Weights, z: Tensor, labels: Tensor, shape: tuple[int, int, int]) -> Tensor:
    logits = torch.einsum("npd,nd->np", weights["map"][labels], z) + weights["bias"][labels]
    return torch.sigmoid(logits).reshape(-1, *shape)


class LinearFit(GeneratorFit):
    def __init__(
        self, teacher: Classifier, *, seed: int, steps: int, latent: int, learning_rate: float
    ) -> None:
        self.steps, self.steps_done = steps, 0
        self._teacher, self._seed, self._latent = teacher, seed, latent
        shape = (teacher.num_classes, int(np.prod(teacher.input_shape)))
        start = generator(seed, RngStream.GENERATOR).standard_normal((*shape, latent), np.float32)
        self._weights = {
            "map": torch.from_numpy(start).requires_grad_(),
            "bias": torch.zeros(shape, requires_grad=True),
        }
        self._adam = torch.optim.Adam(self._weights.values(), lr=learning_rate)

    def step(self) -> dict[str, float]:
        self.steps_done += 1
        draw = generator(self._seed, RngStream.GENERATOR, self.steps_done)
        labels = torch.arange(2 * self._teacher.num_classes) % self._teacher.num_classes
        z = torch.from_numpy(draw.standard_normal((len(labels), self._latent), np.float32))
        images = images_of(self._weights, z, labels, self._teacher.input_shape)
        loss = class_prior_loss(self._teacher(images), labels)
        self._adam.zero_grad()
        loss.backward()
        self._adam.step()
        return {"loss": loss.item()}

    def state_dict(self) -> dict[str, Any]:
        return {
            "done": self.steps_done,
            "weights": self.weights(),
            "adam": self._adam.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps_done = state["done"]
        for name, values in state["weights"].items():
            self._weights[name].data.copy_(values)
        self._adam.load_state_dict(state["adam"])

    def weights(self) -> dict[str, Tensor]:
        return {name: values.detach().clone() for name, values in self._weights.items()}


class LinearSampler(BoundSynthesizer):
    def __init__(self, teacher: Classifier, weights: Weights, latent: int) -> None:
        super().__init__(teacher)
        self._given, self._latent = weights, latent

    def _make(
        self,
        seed: int,
        batches: Sequence[int],
        size: int,
        stream: RngStream,
        resume: BatchState | None,
        on_iteration: OnIteration | None,
    ) -> list[SynthesizedBatch]:
        return [self._batch(seed, batch, size, stream) for batch in batches]

    def _batch(self, seed: int, batch: int, size: int, stream: RngStream) -> SynthesizedBatch:
        draw, classes = generator(seed, stream, batch), self.teacher.num_classes
        rule = "balanced" if stream is RngStream.HOLDOUT else "random"
        labels = torch.from_numpy(
            draw_labels(rule, draw, batch=batch, size=size, num_classes=classes)
        )
        z = torch.from_numpy(draw.standard_normal((size, self._latent), np.float32))
        with torch.no_grad():
            images = images_of(self._given, z, labels, self.teacher.input_shape)
            loss = class_prior_loss(self.teacher(images), labels)
        record = {"radius": z.norm(dim=1).double().numpy(), "loss_class": loss.numpy()}
        return SynthesizedBatch(images=images, labels=labels, record=record)


class LinearGenerator(FittedSynthesizer):
    """Samples of one linear map per class, fitted to the class prior loss.

    Args:
        steps: of the fit.
        latent: the dimension of z.
        learning_rate: Adam's.
    """

    name: ClassVar[str] = "linear"
    columns: ClassVar[Mapping[str, str]] = {"radius": "float64", "loss_class": "float32"}

    def __init__(self, *, steps: int = 30, latent: int = 4, learning_rate: float = 0.1) -> None:
        self.steps = at_least(1, steps, "steps")
        self.latent = at_least(1, latent, "latent")
        self.learning_rate = positive(learning_rate, "learning_rate")

    def fit(
        self, teacher: Classifier, *, seed: int, acceleration: Acceleration | None = None
    ) -> LinearFit:
        return LinearFit(teacher, seed=seed, **vars(self))

    def bind(
        self,
        teacher: Classifier,
        *,
        acceleration: Acceleration | None = None,
        full_pass: tuple[int, int] | None = None,
    ) -> LinearSampler:
        return LinearSampler(teacher, self.weights, self.latent)
