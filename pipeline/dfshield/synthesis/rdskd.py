"""RDSKD: a generator whose images are certain, of all classes, and differ (Han et al. 2021)."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from dfshield.checks import at_least, positive
from dfshield.classifiers import Classifier
from dfshield.engine.acceleration import Acceleration
from dfshield.seeds import RngStream
from dfshield.synthesis.base import FittedSynthesizer, SynthesizedBatch
from dfshield.synthesis.draws import draw_labels
from dfshield.synthesis.generated import GeneratorSampler, NetworkFit
from dfshield.synthesis.generator_network import GeneratorNetwork, new_network

CANDIDATES = 4
"""How many images are sampled for one of the hold-out, which is class-balanced if it can be."""
TINY = 1e-8


def certainty_loss(logits: Float[Tensor, "n k"]) -> Float[Tensor, ""]:
    """Return OH, the cross-entropy of logits and their own largest class."""
    return F.cross_entropy(logits, logits.detach().argmax(dim=1))


def balance_loss(logits: Float[Tensor, "n k"]) -> Float[Tensor, ""]:
    """Return IE, ``sum_k q_k log q_k`` of the mean prediction q: its negative entropy."""
    mean = F.softmax(logits, dim=1).mean(dim=0)
    entropy: Tensor = torch.special.xlogy(mean, mean).sum()
    return entropy


def likeness_loss(
    images: Float[Tensor, "n c h w"], logits: Float[Tensor, "n k"]
) -> Float[Tensor, ""]:
    """Return 1/LZ, ``||p1 - p2|| / ||x1 - x2||`` of the two halves of a batch.

    A half is one vector; of an odd number of images the last is passed over.
    """
    half = len(images) // 2
    probabilities = F.softmax(logits, dim=1)
    apart, answers = (
        torch.linalg.vector_norm(values[:half] - values[half : 2 * half])
        for values in (images, probabilities)
    )
    likeness: Tensor = answers / (apart + TINY)
    return likeness


class RDSKD(FittedSynthesizer):
    """Samples of a generator without classes, fitted to be certain, balanced and diverse.

    The generator is fitted to ``exp(OH - OH') + exp(IE - IE') + 1/LZ``; see `certainty_loss`,
    `balance_loss`, `likeness_loss`. OH' and IE' are what these were before, refreshed every epoch.
    The student that the recipe trains on its images has no part in this loss, and is left out.

    Choices of ours: OH' and IE' are the means of the epoch before, in the first epoch the values of
    the first step; the label of an image is the class that the teacher sees; an image of the
    hold-out is chosen among four, which balances its classes as far as the generator makes them
    all; the generator is a `GeneratorNetwork`, which samples in eval mode.

    Args:
        epochs: of the fit.
        iterations_per_epoch: steps of an epoch.
        fit_batch_size: images of a step.
        learning_rate: Adam's.
        latent: dimension of the noise, ``N(0, I)``.
        width: channels of the generator.

    Raises:
        InputError: for an option that cannot be.
    """

    name: ClassVar[str] = "rdskd"

    def __init__(
        self,
        *,
        epochs: int = 20,
        iterations_per_epoch: int = 120,
        fit_batch_size: int = 512,
        learning_rate: float | int = 1e-3,
        latent: int = 1000,
        width: int = 128,
    ) -> None:
        self.epochs = at_least(1, epochs, "epochs")
        self.iterations_per_epoch = at_least(1, iterations_per_epoch, "iterations_per_epoch")
        self.fit_batch_size = at_least(2, fit_batch_size, "fit_batch_size")
        self.learning_rate = positive(learning_rate, "learning_rate", most=1e6)
        self.latent = at_least(1, latent, "latent")
        self.width = at_least(2, width, "width")

    def fit(
        self, teacher: Classifier, *, seed: int, acceleration: Acceleration | None = None
    ) -> "RDSKDFit":
        """Return the fit of the generator; see `FittedSynthesizer`."""
        del acceleration  # there is no faster way
        return RDSKDFit(teacher, self, seed=seed)

    def bind(
        self,
        teacher: Classifier,
        *,
        acceleration: Acceleration | None = None,
        full_pass: tuple[int, int] | None = None,
    ) -> "RDSKDSampler":
        """Return what samples from the generator; see `FittedSynthesizer`."""
        del acceleration, full_pass
        return RDSKDSampler(teacher, self, self.weights)

    def work(self, num_images: int) -> float:
        """Return the passes of the fit, back to the images being another, and of the images."""
        fitted = self.epochs * self.iterations_per_epoch * self.fit_batch_size
        return 2.0 * fitted + num_images


class RDSKDFit(NetworkFit):
    """The fit of RDSKD's generator; see `RDSKD`."""

    def __init__(self, teacher: Classifier, options: RDSKD, *, seed: int) -> None:
        super().__init__(
            teacher,
            new_network(options.latent, teacher.input_shape, seed=seed, width=options.width),
            seed=seed,
            steps=options.epochs * options.iterations_per_epoch,
            learning_rate=options.learning_rate,
            betas=(0.9, 0.999),
        )
        self._options = options
        self._before: list[float] = []
        self._sums = [0.0, 0.0]

    def _losses(
        self, draw: np.random.Generator
    ) -> tuple[Float[Tensor, "n c h w"], dict[str, Float[Tensor, ""]]]:
        options = self._options
        noise = draw.standard_normal((options.fit_batch_size, options.latent), dtype=np.float32)
        images: Tensor = self.network(torch.from_numpy(noise).to(self.device))
        logits = self.teacher(images)
        moving = certainty_loss(logits), balance_loss(logits)
        self._before = self._before or [term.item() for term in moving]
        certainty, balance = (
            torch.exp(term - before) for term, before in zip(moving, self._before, strict=True)
        )
        likeness = likeness_loss(images, logits)
        self._refresh([term.item() for term in moving])
        return images, {
            "loss": certainty + balance + likeness,
            "loss_certainty": moving[0],
            "loss_balance": moving[1],
            "loss_likeness": likeness,
        }

    def _refresh(self, values: list[float]) -> None:
        """Count the terms of this step; at the end of an epoch their means are those before."""
        self._sums = [total + value for total, value in zip(self._sums, values, strict=True)]
        steps = self._options.iterations_per_epoch
        if (self.steps_done + 1) % steps == 0:
            self._before = [total / steps for total in self._sums]
            self._sums = [0.0, 0.0]

    def state_dict(self) -> dict[str, Any]:
        """Return what the remaining steps depend on; see `GeneratorFit`."""
        return {**super().state_dict(), "before": list(self._before), "sums": list(self._sums)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        super().load_state_dict(state)
        self._before, self._sums = list(state["before"]), list(state["sums"])


class RDSKDSampler(GeneratorSampler):
    """Samples of RDSKD's generator; see `RDSKD`."""

    def __init__(self, teacher: Classifier, options: RDSKD, weights: Mapping[str, Tensor]) -> None:
        network = GeneratorNetwork(options.latent, teacher.input_shape, width=options.width)
        super().__init__(teacher, network, weights)
        self._latent = options.latent

    def _sampled(
        self, draw: np.random.Generator, *, stream: RngStream, batch: int, size: int
    ) -> SynthesizedBatch:
        if stream is not RngStream.HOLDOUT:
            images, labels = self._images(draw, size)
            return SynthesizedBatch(images, labels, {})
        classes = self.teacher.num_classes
        wanted = draw_labels("balanced", draw, batch=batch, size=size, num_classes=classes)
        images, labels = self._images(draw, CANDIDATES * size)
        chosen = torch.from_numpy(chosen_for(wanted, labels.numpy()))
        return SynthesizedBatch(images[chosen], labels[chosen], {})

    def _images(self, draw: np.random.Generator, size: int) -> tuple[Tensor, Tensor]:
        """Return images and the classes that the teacher sees, on the CPU."""
        noise = draw.standard_normal((size, self._latent), dtype=np.float32)
        images: Tensor = self.network(torch.from_numpy(noise).to(self.device))
        return images.cpu(), self.teacher(images).argmax(dim=1).cpu()


def chosen_for(
    wanted: Int64[np.ndarray, " n"], labels: Int64[np.ndarray, " m"]
) -> Int64[np.ndarray, " n"]:
    """Return a candidate for every wanted label: the next that has it, else any that is left.

    Args:
        wanted: labels.
        labels: of the candidates, which are no fewer.
    """
    chosen = np.full(len(wanted), -1, dtype=np.int64)
    for label in np.unique(wanted):
        places, having = np.flatnonzero(wanted == label), np.flatnonzero(labels == label)
        found = min(len(places), len(having))
        chosen[places[:found]] = having[:found]
    left = np.setdiff1d(np.arange(len(labels)), chosen)
    unfilled = chosen < 0
    chosen[unfilled] = left[: unfilled.sum()]
    return chosen
