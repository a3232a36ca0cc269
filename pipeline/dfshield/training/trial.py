"""The adversarial training as the engine trial computes it: plainly, in float64, and faster."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dfshield.classifiers import float32_logits, gradients, modes_kept
from dfshield.engine.acceleration import Acceleration
from dfshield.engine.peak_memory import PeakMemory
from dfshield.engine.trial import Ways
from dfshield.engine.trial_checks import Answer, Outcome
from dfshield.seeds import RngStream, generator, torch_generators
from dfshield.training.objectives import Objective
from dfshield.training.trainer import AdversarialTrainer


@dataclass(frozen=True, eq=False)
class TrialImages:
    """Images of an attack's pass, on the student's device, of which the ways tell their numbers.

    The gradient is compared at adversarial images that the plain way has crafted: those of two ways
    differ, since signs of gradients decide about them, however small the difference between these.

    Attributes:
        images: in [0, 1], of one whole mini-batch or of several that are attacked together.
        labels: their artificial labels.
        teacher_logits: the teacher's logits of them.
        size: of a mini-batch, the first of these, at which the gradient is compared.
        adversarial: what the plain way has crafted, by how many updates the student had had.
    """

    images: Float[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]
    teacher_logits: Float[Tensor, "n k"]
    size: int
    adversarial: dict[int, Tensor] = field(default_factory=dict)

    def leading(self, number: int = 1) -> "TrialImages":
        """Return the first mini-batches of them."""
        cut = slice(number * self.size)
        return TrialImages(self.images[cut], self.labels[cut], self.teacher_logits[cut], self.size)


def training_ways(make: Callable[[Acceleration], AdversarialTrainer], batch: TrialImages) -> Ways:
    """Return the ways to train a student; an iteration is an update of one worker.

    Args:
        make: returns a trainer at its beginning, always of the same training. It has as many epochs
            as a trial does updates.
        batch: the images that gradients are compared at.
    """
    return Ways(
        plain=_PlainTraining(make, Acceleration(), batch),
        exact=_ExactTraining(make, batch),
        faster=lambda acceleration: _Training(make, acceleration, batch),
    )


class _Training:
    """The training with an acceleration."""

    def __init__(
        self,
        make: Callable[[Acceleration], AdversarialTrainer],
        acceleration: Acceleration,
        batch: TrialImages,
    ) -> None:
        self._make, self._acceleration, self._batch = make, acceleration, batch
        self._device = batch.images.device

    def begin(self) -> None:
        """Build and, if so accelerated, compile the student's passes."""
        self._memory = PeakMemory(self._device)
        self._trainer = self._make(self._acceleration)
        self._first = copy.deepcopy(self._trainer.state_dict())

    def answer(self, state: object) -> Answer:
        """Return the gradient with respect to the weights, the loss and its terms, and the rest."""
        done, trainer, batch = self._stand_at(state), self._trainer, self._batch
        crafted = attacked(trainer, batch, done)
        self._keep(done, crafted)
        found = at_images(trainer, batch.leading(), batch.adversarial[done][: batch.size])
        strength = trainer.inner.mean_loss(
            trainer.student,
            trainer.passes.pixels(batch.images),
            crafted,
            teacher_logits=batch.teacher_logits,
            labels=batch.labels,
        )
        return replace(found, attacked=strength)

    def run(self, state: object, steps: int) -> Outcome:
        """Do some updates; the total is the loss of the last."""
        self._stand_at(state)
        records = [self._trainer.step() for _ in range(steps)]
        reached = copy.deepcopy(self._trainer.state_dict())
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return Outcome(
            state=reached,
            tensors=tuple(reached["student"].values()),
            total=records[-1].loss,
            agreement=records[0].agreement_rate,
        )

    def peak_bytes(self) -> int | None:
        """Return the most memory held since `begin`."""
        return self._memory.bytes()

    def _stand_at(self, state: object) -> int:
        """Take over a state; return how many updates are done."""
        self._trainer.load_state_dict(_standing(state, self._first))
        return self._trainer.updates_done

    def _keep(self, done: int, adversarial: Tensor) -> None:
        """Hand on adversarial images, if they are those of the plain way."""


class _PlainTraining(_Training):
    def _keep(self, done: int, adversarial: Tensor) -> None:
        self._batch.adversarial[done] = adversarial


class _ExactTraining:
    """The gradient in float64."""

    def __init__(
        self, make: Callable[[Acceleration], AdversarialTrainer], batch: TrialImages
    ) -> None:
        self._make, self._batch = make, batch

    def begin(self) -> None:
        """Build a trainer, of which a copy in float64 is made at every state."""
        self._trainer = self._make(Acceleration())
        self._first = copy.deepcopy(self._trainer.state_dict())

    def answer(self, state: object) -> Answer:
        """Return the gradient with respect to the weights, the loss and its terms."""
        trainer, batch = self._trainer, self._batch.leading()
        trainer.load_state_dict(_standing(state, self._first))
        student = copy.deepcopy(trainer.student).double().train()
        crafted = self._batch.adversarial[trainer.updates_done]
        images, adversarial = (
            trainer.passes.pixels(x).double() for x in (batch.images, crafted[: batch.size])
        )
        with gradients(), torch_generators(0, images.device):
            logits = [float32_logits(student, x) for x in (images, adversarial)]
            return Answer(*_gradient_and_terms(trainer.objective, student, logits, batch))


def attacked(trainer: AdversarialTrainer, batch: TrialImages, draw: int) -> Tensor:
    """Return the adversarial images of a pass that a trainer crafts where it stands.

    Args:
        trainer: which is left as it is.
        batch: the images.
        draw: which of the starts is drawn.
    """
    with torch_generators(0, trainer.passes.device):
        return trainer.inner(
            trainer.attacked,
            trainer.passes.pixels(batch.images),
            generator=generator(trainer.seed, RngStream.TRAINING, draw),
            teacher_logits=batch.teacher_logits,
            labels=batch.labels,
        )


def at_images(trainer: AdversarialTrainer, batch: TrialImages, adversarial: Tensor) -> Answer:
    """Return gradient, loss, its terms and BatchNorm's statistics where a trainer stands.

    Args:
        trainer: which is left as it is.
        batch: the images, of a mini-batch.
        adversarial: those of it.
    """
    student, passes = trainer.student, trainer.passes
    draws = torch_generators(0, passes.device)
    with modes_kept(student), _buffers_kept(student), gradients(), draws:
        student.train()
        logits = [passes.train_pass(passes.pixels(x)) for x in (batch.images, adversarial)]
        statistics = passes.take().statistics
        return Answer(*_gradient_and_terms(trainer.objective, student, logits, batch), statistics)


@contextmanager
def _buffers_kept(student: nn.Module) -> Iterator[None]:
    """Let buffers of whatever layer be as before after the block."""
    before = {name: buffer.clone() for name, buffer in student.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, buffer in student.named_buffers():
                buffer.copy_(before[name])


def _gradient_and_terms(
    objective: Objective, student: nn.Module, logits: Sequence[Tensor], batch: TrialImages
) -> tuple[Tensor, Tensor]:
    """Return the gradient of the loss, flat, and the loss with its terms."""
    clean, adversarial = logits
    losses = objective(
        clean=clean,
        adversarial=adversarial,
        teacher=batch.teacher_logits.to(clean.dtype),
        labels=batch.labels,
    )
    weights = [weight for weight in student.parameters() if weight.requires_grad]
    found = torch.autograd.grad(losses.total, weights, materialize_grads=True, allow_unused=True)
    gradient = torch.cat([piece.flatten() for piece in found])
    return gradient, torch.stack([losses.total, *losses.terms.values()]).detach()


def _standing(state: object, first: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the state to go on from; None is the first one."""
    if state is None:
        return first
    assert isinstance(state, Mapping)
    return state
