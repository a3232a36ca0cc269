"""The gradients of the mini-batches of one update, which GradRefine accumulates."""

from collections.abc import Iterator
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from dfshield.classifiers import require_logits
from dfshield.seeds import RngStream, derived_seed, torch_generators
from dfshield.training.augmenting import Augmenter
from dfshield.training.gradrefine import GradRefine
from dfshield.training.image_batches import ImageBatch, ImageBatches
from dfshield.training.inner_maximization import InnerMaximization
from dfshield.training.kept_perturbations import KeptPerturbations
from dfshield.training.objectives import Losses, Objective
from dfshield.training.passes import StudentPasses
from dfshield.training.records import MiniBatch
from dfshield.training.weight_perturbation import WeightPerturbation


class GroupGradients:
    """Crafts the adversarial images of a group's mini-batches, and adds up their gradients.

    Args:
        passes: of the student.
        batches: gives this worker its mini-batches.
        refine: takes their gradients.
        objective: the outer loss.
        inner: the inner maximisation.
        augmenter: changes the images first; None leaves them as they are stored.
        perturbation: of the weights at which the gradients are taken; None takes them as they are.
        kept: the perturbations that attacks begin with; None keeps none.
        seed: the run's seed.
    """

    def __init__(
        self,
        passes: StudentPasses,
        batches: ImageBatches,
        refine: GradRefine,
        *,
        objective: Objective,
        inner: InnerMaximization,
        augmenter: Augmenter | None,
        perturbation: WeightPerturbation | None,
        kept: KeptPerturbations | None,
        seed: int,
    ) -> None:
        self._passes = passes
        self._batches = batches
        self._refine = refine
        self._objective = objective
        self._inner = inner
        self._augmenter = augmenter
        self._perturbation = perturbation
        self._kept = kept
        self._seed = seed

    def accumulate(self, epoch: int, update: int) -> list[MiniBatch]:
        """Do this worker's mini-batches of an update, the student being in train mode."""
        attacked = self._attacked(epoch, update)
        if self._perturbation is None:
            return [self._refined(epoch, update, *one) for one in attacked]
        kept = list(attacked)
        for batch, adversarial in kept:
            self._backward(epoch, update, batch, adversarial)
            self._perturbation.add()
            self._refine.optimizer.zero_grad(set_to_none=True)
            self._passes.take()  # statistics count where the gradients do
        with self._perturbation.applied():
            return [self._refined(epoch, update, *one) for one in kept]

    def reset(self) -> None:
        """Forget what a failed update has left."""
        self._refine.reset()
        self._passes.take()
        if self._perturbation is not None:
            self._perturbation.forget()

    def _attacked(self, epoch: int, update: int) -> Iterator[tuple[ImageBatch, Tensor]]:
        """Give the mini-batches with their adversarial images, as many at once as may be."""
        inner = self._inner.at(*self._batches.place(epoch, update))
        for stored in self._batches.passes(epoch, update):
            in_pass = [self._prepared(batch, epoch) for batch in stored]
            with self._torch_draws(epoch, in_pass[0].number):
                attacked = inner.perturb_batches(
                    self._passes.attacked,
                    [batch.images for batch in in_pass],
                    generators=[batch.generator for batch in in_pass],
                    noise=[batch.noise for batch in in_pass],
                    kept=self._kept_of(in_pass),
                    teacher_logits=torch.cat([batch.teacher_logits for batch in in_pass]),
                    labels=torch.cat([batch.labels for batch in in_pass]),
                )
            yield from zip(in_pass, attacked, strict=True)

    def _kept_of(self, in_pass: list[ImageBatch]) -> Tensor | None:
        if self._kept is None:
            return None
        return self._kept.of(torch.cat([batch.rows for batch in in_pass]))

    def _prepared(self, batch: ImageBatch, epoch: int) -> ImageBatch:
        if self._augmenter is not None:
            batch = self._augmenter(batch, epoch)
        return batch._replace(images=self._passes.pixels(batch.images))

    def _refined(
        self, epoch: int, update: int, batch: ImageBatch, adversarial: Tensor
    ) -> MiniBatch:
        losses = self._backward(epoch, update, batch, adversarial)
        self._refine.accumulate()
        values = torch.stack([losses.total, *losses.terms.values()]).detach()
        made = MiniBatch(batch.number, tuple(losses.terms), values, self._passes.take())
        if self._kept is None:
            return made
        found = (adversarial - batch.images).half()
        return made._replace(rows=batch.rows, perturbations=found)

    def _backward(self, epoch: int, update: int, batch: ImageBatch, adversarial: Tensor) -> Losses:
        with self._torch_draws(epoch, batch.number):
            clean_logits, adversarial_logits = map(
                self._passes.train_pass, (batch.images, adversarial)
            )
            if epoch == update == 0:  # its answers in eval mode are known to be logits
                require_logits(clean_logits, "student: in train mode it")
            losses = self._objective(
                clean=clean_logits,
                adversarial=adversarial_logits,
                teacher=batch.teacher_logits,
                labels=batch.labels,
            )
            torch.autograd.backward(losses.total)
        return losses

    def _torch_draws(self, epoch: int, batch: int) -> AbstractContextManager[None]:
        seed = derived_seed(self._seed, RngStream.TRAINING, epoch, batch)
        return torch_generators(seed, self._passes.device)
