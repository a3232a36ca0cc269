"""AIT: images that fit the teacher's statistics, for a TRADES student (Choi et al. 2022)."""

from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from dfshield.baselines.base import Access, EpochBaseline
from dfshield.baselines.networks import NormalisedNetwork, changes_of, drawn_from
from dfshield.baselines.student import Init
from dfshield.baselines.training import BaselineTraining
from dfshield.checks import at_least, non_negative
from dfshield.classifiers import Classifier, answer_of, require_batchnorm
from dfshield.divergence import kl_divergence
from dfshield.errors import InputError
from dfshield.synthesis.losses import SquaredStatistics
from dfshield.training import InnerMaximization

BETAS = (0.5, 0.999)
DROP = 0.1
"""What both learning rates are multiplied by at every milestone."""


def trades_loss(
    clean: Float[Tensor, "n k"],
    adversarial: Float[Tensor, "n k"],
    labels: Int[Tensor, " n"],
    *,
    beta: float,
) -> Float[Tensor, ""]:
    """Return ``CE(S(x), y) + beta KL(S(x) || S(x'))`` of logits."""
    return F.cross_entropy(clean, labels) + beta * kl_divergence(clean, adversarial)


class AIT(EpochBaseline):
    """GDFQ's generator, fitted to the teacher's classes and BatchNorm statistics, and TRADES.

    A step: images x of codes ``z * e_y``, e_y being the learnt embedding of label y; the generator
    minimises ``CE(T(x), y) + feature_weight BNS``, BNS being `SquaredStatistics`; then, after the
    first epochs, the student minimises ``CE(S(x), y) + beta KL(S(x) || S(x'))``.

    AIT quantises: of it the paper takes the generator, and TRADES for the student. Which of its
    hosts was used is not known; GDFQ's is taken here. The generator's images are in the teacher's
    normalised scale, of any range; the student is given them denormalised and clipped.

    Args:
        epochs: of the training.
        iterations_per_epoch: steps of an epoch.
        warmup_epochs: the first epochs, in which the generator alone is trained.
        batch_size: images of a step.
        student_learning_rate: SGD's, with Nesterov momentum 0.9.
        generator_learning_rate: Adam's, whose betas are 0.5 and 0.999.
        milestones: epochs after which both learning rates are multiplied by 0.1.
        feature_weight: of the distance of BatchNorm statistics.
        beta: weight of the student's smoothness.
        latent: components of a code.
        width: channels of the generator.
        init: where the student begins: ``teacher`` or ``scratch``.
    """

    name: ClassVar[str] = "ait"
    unusual: ClassVar[str] = (
        "AIT quantises; of it the generator (that of GDFQ) remains, with TRADES for the student"
    )

    def __init__(
        self,
        *,
        epochs: int = 400,
        iterations_per_epoch: int = 200,
        warmup_epochs: int = 4,
        batch_size: int = 200,
        student_learning_rate: float | int = 1e-4,
        generator_learning_rate: float | int = 1e-3,
        milestones: tuple[int, ...] = (100, 200, 300),
        feature_weight: float | int = 0.1,
        beta: float | int = 6.0,
        latent: int = 100,
        width: int = 128,
        init: Init = "teacher",
    ) -> None:
        super().__init__(
            epochs=epochs,
            iterations_per_epoch=iterations_per_epoch,
            init=init,
            batch_size=batch_size,
            student_learning_rate=student_learning_rate,
            generator_learning_rate=generator_learning_rate,
        )
        self.warmup_epochs = at_least(0, warmup_epochs, "warmup_epochs")
        if self.warmup_epochs >= self.epochs:
            raise InputError(
                f"warmup_epochs: {warmup_epochs} of {epochs} epochs leave none for the student"
            )
        self.milestones = _milestones(milestones, epochs=self.epochs)
        self.feature_weight = non_negative(feature_weight, "feature_weight")
        self.beta = non_negative(beta, "beta")
        self.latent = at_least(1, latent, "latent")
        self.width = at_least(2, width, "width")

    @property
    def access(self) -> Access:
        """Gradients, and the statistics that the teacher's BatchNorm has kept."""
        return "gradients"

    def begin(self, teacher: Classifier, *, inner: InnerMaximization, seed: int) -> "AITTraining":
        """Return the training; see `Baseline`."""
        return AITTraining(teacher, self, inner=inner, seed=seed)


def _milestones(given: object, *, epochs: int) -> tuple[int, ...]:
    if not isinstance(given, tuple | list):
        raise InputError(f"milestones: {given!r} must be a list of epochs")
    found = tuple(at_least(1, value, "milestones") for value in given)
    late = next((value for value in found if value >= epochs), None)
    if late is not None:
        raise InputError(
            f"milestones: the training of {epochs} epochs ends before the learning rates fall "
            f"after epoch {late}: name epochs below {epochs}, or [] for none"
        )
    return found


class AITTraining(BaselineTraining):
    """The training of AIT; see `AIT`."""

    network: NormalisedNetwork

    def __init__(
        self, teacher: Classifier, options: AIT, *, inner: InnerMaximization, seed: int
    ) -> None:
        require_batchnorm(teacher)
        with drawn_from(seed):
            network = NormalisedNetwork(
                options.latent,
                teacher.input_shape,
                num_classes=teacher.num_classes,
                width=options.width,
                mean=teacher.mean,
                std=teacher.std,
            )
        super().__init__(
            teacher,
            network,
            options,
            inner=inner,
            seed=seed,
        )
        self.changed = changes_of(
            teacher.input_shape, width=options.width, latent=options.latent, published_latent=100
        )
        self._options = options
        self._statistics = SquaredStatistics(self.teacher.network)
        self._optimise(
            student=torch.optim.SGD(
                self.student.parameters(),
                lr=options.student_learning_rate,
                momentum=0.9,
                nesterov=True,
            ),
            generator=torch.optim.Adam(
                network.parameters(), lr=options.generator_learning_rate, betas=BETAS
            ),
        )

    def _rate_factor(self, step: int) -> float:
        epoch = step // self.steps_per_epoch
        return DROP ** sum(epoch >= milestone for milestone in self._options.milestones)

    def _coded(
        self, draw: np.random.Generator, size: int
    ) -> tuple[Float[Tensor, "n d"], Int[Tensor, " n"]]:
        """Return codes and their labels, which are uniform."""
        drawn = draw.integers(self.teacher.num_classes, size=size)
        labels = torch.from_numpy(drawn).to(self.device)
        assert self.network.embedding is not None
        return self._normal(draw, size, self._options.latent) * self.network.embedding(
            labels
        ), labels

    def _images(self, draw: np.random.Generator, size: int) -> Float[Tensor, "n c h w"]:
        images: Tensor = self.network(self._coded(draw, size)[0])
        return images

    def _step(self, draw: np.random.Generator) -> dict[str, float]:
        codes, labels = self._coded(draw, self.batch_size)
        normalised = self.network.preactivation(codes)
        images = self._looked_at(self.network.pixels(normalised.detach()))
        self.queries += len(normalised)
        with self._statistics.recording():
            logits = answer_of(self.teacher.network, normalised).float()
        of_classes, of_features = F.cross_entropy(logits, labels), self._statistics.loss()
        of_generator = of_classes + self._options.feature_weight * of_features
        self._descend("generator", of_generator)
        losses = {
            "loss_generator": of_generator.item(),
            "loss_class": of_classes.item(),
            "loss_feature": of_features.item(),
        }
        if self.steps_done < self._options.warmup_epochs * self.steps_per_epoch:
            return losses
        return {"loss": self._update_student(images, labels, draw), **losses}

    def _update_student(
        self, images: Float[Tensor, "n c h w"], labels: Int[Tensor, " n"], draw: np.random.Generator
    ) -> float:
        adversarial = self._attacked(images, draw)
        loss = trades_loss(
            self._passes.train_pass(images),
            self._passes.train_pass(adversarial),
            labels,
            beta=self._options.beta,
        )
        self._descend("student", loss)
        return loss.item()
