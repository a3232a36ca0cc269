"""Images to student: the epoch loop of the adversarial training, one update at a time."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim import Optimizer

from dfshield.seeds import Stage, derived_seed, generator, torch_generators
from dfshield.training.batchnorm import DeferredBatchNorm
from dfshield.training.gradrefine import GradRefine
from dfshield.training.objectives import Losses, Objective
from dfshield.training.perturbation import InnerMaximization


@dataclass(frozen=True)
class UpdateRecord:
    """What one update did. Losses are means over its mini-batches, weighted as in the objective."""

    epoch: int
    update: int
    loss: float
    loss_clean: float
    loss_robust: float
    loss_smooth: float
    agreement_rate: float
    ends_epoch: bool


class AdversarialTrainer:
    """Second half of Algorithm 1: groups of K mini-batches, each ending in one GradRefine update.

    In every mini-batch the adversarial images are crafted by `inner`, the objective is formed from
    one clean and one adversarial train-mode pass and the teacher's stored logits, and its gradient
    is accumulated. BatchNorm buffers move when the group ends. An epoch is a fresh permutation; a
    last mini-batch or group may be short.

    Everything random derives from ``(seed, epoch, mini-batch)``, so a trainer that is given the
    state of another one at an update boundary goes on exactly as that one would have.

    Args:
        student: the model to train, on its device; a `Classifier` or any module from [0, 1] images
            to logits.
        images: surrogate images in [0, 1], on the student's device or the CPU.
        labels: their artificial labels.
        teacher_logits: the teacher's logits of them.
        optimizer: over the student's parameters.
        objective: the outer loss.
        inner: the inner maximisation.
        epochs: passes over the data.
        batch_size: images per mini-batch.
        num_batches: K, the mini-batches whose gradients are refined together.
        tau: GradRefine's agreement threshold.
        seed: the run's seed.
    """

    def __init__(
        self,
        student: nn.Module,
        *,
        images: Float[Tensor, "n c h w"],
        labels: Int[Tensor, " n"],
        teacher_logits: Float[Tensor, "n k"],
        optimizer: Optimizer,
        objective: Objective,
        inner: InnerMaximization,
        epochs: int,
        batch_size: int = 200,
        num_batches: int = 20,
        tau: float = 0.5,
        seed: int = 0,
    ) -> None:
        self.student = student
        self.images = images
        self.labels = labels
        self.teacher_logits = teacher_logits
        self.optimizer = optimizer
        self.objective = objective
        self.inner = inner
        self.epochs = epochs
        self.batch_size = batch_size
        self.num_batches = num_batches
        self.seed = seed
        self.epoch = 0
        self.update = 0  # within the epoch
        self._refine = GradRefine(optimizer, tau=tau)
        self._batchnorm = DeferredBatchNorm(student)
        self._device = next(student.parameters()).device

    @property
    def batches_per_epoch(self) -> int:
        """Mini-batches in an epoch, a short last one included."""
        return -(-len(self.images) // self.batch_size)

    @property
    def updates_per_epoch(self) -> int:
        """Updates in an epoch, that of a short last group included."""
        return -(-self.batches_per_epoch // self.num_batches)

    @property
    def done(self) -> bool:
        """Whether all epochs are over."""
        return self.epoch >= self.epochs

    def step(self) -> UpdateRecord:
        """Do the next update: one group of mini-batches.

        Raises:
            DfshieldError: if the training diverges.
        """
        order = generator(self.seed, Stage.TRAINING, self.epoch).permutation(len(self.images))
        first = self.update * self.num_batches
        batches = range(first, min(first + self.num_batches, self.batches_per_epoch))
        self.student.train()
        losses = []
        for batch in batches:
            rows = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            seed = derived_seed(self.seed, Stage.TRAINING, self.epoch, batch)
            with torch_generators(seed, self._device):
                losses.append(torch.stack(self._accumulate(batch, rows)).detach())
        rate = self._refine.step()
        self._batchnorm.apply()
        total, clean, robust, smooth = torch.stack(losses).mean(dim=0).tolist()
        epoch, update = self.epoch, self.update
        self._advance()
        return UpdateRecord(
            epoch, update, total, clean, robust, smooth, rate, ends_epoch=self.update == 0
        )

    def _accumulate(self, batch: int, rows: np.ndarray) -> Losses:
        index = torch.from_numpy(rows).to(self.images.device)
        images = self.images[index].to(self._device)
        adversarial_images = self.inner(
            self.student,
            images,
            generator=generator(self.seed, Stage.TRAINING, self.epoch, batch),
        )
        with self._batchnorm.recording():
            clean = self.student(images)
            adversarial = self.student(adversarial_images)
        losses = self.objective(
            clean=clean,
            adversarial=adversarial,
            teacher=self.teacher_logits[index].to(self._device),
            labels=self.labels[index].to(self._device),
        )
        torch.autograd.backward(losses.total)
        self._refine.accumulate()
        return losses

    def _advance(self) -> None:
        self.update += 1
        if self.update == self.updates_per_epoch:
            self.epoch, self.update = self.epoch + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to go on from this update boundary (not a copy)."""
        return {
            "student": self.student.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "update": self.update,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of a trainer that was built with the same arguments."""
        self.student.load_state_dict(state["student"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch = state["epoch"]
        self.update = state["update"]
