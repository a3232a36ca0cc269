"""DFARD: distillation with a temperature that follows the student (after Wang et al. 2023)."""

from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from dfshield.baselines.base import Access, EpochBaseline
from dfshield.baselines.networks import AuxiliaryClassifierNetwork, drawn_from
from dfshield.baselines.student import Init
from dfshield.baselines.training import BaselineTraining
from dfshield.checks import at_least, positive, share
from dfshield.classifiers import Classifier, answer_of, float32_logits, frozen, require_batchnorm
from dfshield.divergence import kl_divergence
from dfshield.errors import InputError
from dfshield.synthesis.losses import SquaredStatistics
from dfshield.training import InnerMaximization

BETAS = (0.5, 0.999)
LOWEST, HIGHEST = 1.0, 20.0
"""Between which the temperature stays."""
MOST_WEIGHT = 100.0
"""Of a term of the generator: student and teacher are one at the beginning, and do not differ."""


def balance(reference: Float[Tensor, ""], term: Float[Tensor, ""]) -> float:
    """Return the weight that makes a term as large as the reference, at most `MOST_WEIGHT`."""
    wanted, found = reference.item(), term.item()
    return min(wanted / found, MOST_WEIGHT) if found > 0 else MOST_WEIGHT


def next_temperature(temperature: float, before: float, now: float, *, change: float) -> float:
    """Return ``t (1 + change sign(now - before))`` within [1, 20], of the mean losses of epochs."""
    moved = temperature * (1.0 + change * float(np.sign(now - before)))
    return min(max(moved, LOWEST), HIGHEST)


class DFARD(EpochBaseline):
    """Distillation by a temperature that follows the student's loss: our reconstruction.

    A step: images x of noise and labels y; the generator minimises ``CE(T(x), y) + w_bn BNS -
    w_adv KL(T(x) || S(x))``, BNS being `SquaredStatistics`; then the student minimises
    ``t^2 KL_t(T(x) || S(x'))``. After every epoch t falls by temperature_change if the mean loss
    has fallen, and rises by it if it has risen, within [1, 20].

    Published are the ideas alone (an interactive temperature, an adaptive balance of the
    generator) and, by the paper that compares with it, an AC-GAN generator. Ours: the rule of t,
    the weights (each makes its term as large as the first one, but 100 at most), the optimiser of
    the student and all sizes.

    Args:
        epochs: of the training.
        iterations_per_epoch: steps of an epoch.
        batch_size: images of a step.
        student_learning_rate: SGD's, with Nesterov momentum 0.9.
        generator_learning_rate: Adam's, whose betas are 0.5 and 0.999.
        temperature: t of the first epoch, from 1 to 20.
        temperature_change: by which share it changes.
        latent: components of the noise, ``N(0, I)``.
        width: channels of the generator's first map.
        init: where the student begins: ``teacher`` or ``scratch``.
    """

    name: ClassVar[str] = "dfard"
    unusual: ClassVar[str] = (
        "DFARD has no public code: its temperature and its balance are a reconstruction of ours"
    )

    def __init__(
        self,
        *,
        epochs: int = 100,
        iterations_per_epoch: int = 300,
        batch_size: int = 200,
        student_learning_rate: float | int = 1e-3,
        generator_learning_rate: float | int = 2e-4,
        temperature: float | int = 4.0,
        temperature_change: float | int = 0.05,
        latent: int = 100,
        width: int = 384,
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
        self.temperature = positive(temperature, "temperature", most=HIGHEST)
        if self.temperature < LOWEST:
            raise InputError(f"temperature: {temperature!r} must be at least {LOWEST:g}")
        self.temperature_change = share(temperature_change, "temperature_change")
        self.latent = at_least(1, latent, "latent")
        self.width = at_least(4, width, "width")

    @property
    def access(self) -> Access:
        """Gradients, and the statistics that the teacher's BatchNorm has kept."""
        return "gradients"

    def begin(self, teacher: Classifier, *, inner: InnerMaximization, seed: int) -> "DFARDTraining":
        """Return the training; see `Baseline`."""
        return DFARDTraining(teacher, self, inner=inner, seed=seed)


class DFARDTraining(BaselineTraining):
    """The training of DFARD; see `DFARD`.

    Attributes:
        temperature: of the next step.
    """

    network: AuxiliaryClassifierNetwork

    def __init__(
        self, teacher: Classifier, options: DFARD, *, inner: InnerMaximization, seed: int
    ) -> None:
        require_batchnorm(teacher)
        with drawn_from(seed):
            network = AuxiliaryClassifierNetwork(
                options.latent,
                teacher.input_shape,
                num_classes=teacher.num_classes,
                width=options.width,
            )
        super().__init__(
            teacher,
            network,
            options,
            inner=inner,
            seed=seed,
        )
        self.changed = network.changed
        self.temperature, self._options = options.temperature, options
        self._before: float | None = None
        self._sum = 0.0
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

    def _labelled(
        self, draw: np.random.Generator, size: int
    ) -> tuple[Float[Tensor, "n c h w"], Int[Tensor, " n"]]:
        drawn = draw.integers(self.teacher.num_classes, size=size)
        labels = torch.from_numpy(drawn).to(self.device)
        return self.network(self._normal(draw, size, self._options.latent), labels), labels

    def _images(self, draw: np.random.Generator, size: int) -> Float[Tensor, "n c h w"]:
        return self._labelled(draw, size)[0]

    def _step(self, draw: np.random.Generator) -> dict[str, float]:
        images, labels = self._labelled(draw, self.batch_size)
        self._looked_at(images)
        teacher, losses = self._update_generator(images, labels)
        adversarial = self._attacked(images.detach(), draw)
        student = self._passes.train_pass(adversarial)
        loss = kl_divergence(teacher, student, temperature=self.temperature)
        self._descend("student", loss)
        found = {"loss": loss.item(), **losses, "temperature": self.temperature}
        self._follow(loss.item())
        return found

    def _update_generator(
        self, images: Float[Tensor, "n c h w"], labels: Int[Tensor, " n"]
    ) -> tuple[Float[Tensor, "n k"], dict[str, float]]:
        """Return the teacher's logits of the images and the losses of the generator."""
        self.queries += len(images)
        with self._statistics.recording():
            logits = answer_of(self.teacher.network, self.teacher.normalise(images)).float()
        of_classes, of_features = F.cross_entropy(logits, labels), self._statistics.loss()
        with frozen(self.student):
            apart = kl_divergence(logits, float32_logits(self.student, images))
        loss = (
            of_classes
            + balance(of_classes, of_features) * of_features
            - balance(of_classes, apart) * apart
        )
        self._descend("generator", loss)
        return logits.detach(), {
            "loss_generator": loss.item(),
            "loss_class": of_classes.item(),
            "loss_feature": of_features.item(),
            "loss_apart": apart.item(),
        }

    def _follow(self, loss: float) -> None:
        """Count the student's loss of a step; at the end of an epoch the temperature follows."""
        self._sum += loss
        if (self.steps_done + 1) % self.steps_per_epoch:
            return
        mean, self._sum = self._sum / self.steps_per_epoch, 0.0
        if self._before is not None:
            self.temperature = next_temperature(
                self.temperature, self._before, mean, change=self._options.temperature_change
            )
        self._before = mean

    def state_dict(self) -> dict[str, Any]:
        """Return what the remaining steps depend on; see `BaselineTraining`."""
        own = {"temperature": self.temperature, "before": self._before, "sum": self._sum}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: Any) -> None:
        """Go on from what `state_dict` returned."""
        super().load_state_dict(state)
        self.temperature, self._before = state["temperature"], state["before"]
        self._sum = state["sum"]
