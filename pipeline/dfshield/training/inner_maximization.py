"""The inner maximisation: the adversarial images that the student is trained on."""

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dfshield.attacks import NORMS, Norm, frozen, in_float32
from dfshield.attacks.ascent import Ascent, Objective
from dfshield.attacks.ball import random_perturbation
from dfshield.attacks.losses import cross_entropy
from dfshield.checks import at_least, one_of
from dfshield.classifiers import gradients, require_module
from dfshield.divergence import kl_divergence
from dfshield.epsilon import parse_epsilon
from dfshield.errors import InputError
from dfshield.pixels import require_images
from dfshield.training.requirements import require_labels

InnerLoss = Literal["kl", "teacher-kl", "ce"]
Start = Literal["gaussian", "uniform", "kept"]

START_SCALE = 0.001


class InnerMaximization:
    """PGD on the student, in eval mode (the inner problem of Algorithm 1).

    l_inf steps by ``step_size`` (default ``eps / 4``) along the sign of the gradient and projects
    after each; l_2 steps by ``step_size`` (default ``2 eps / num_steps``, as the authors' code)
    along the gradient normalised per image, clips to [0, 1], then scales the perturbation back into
    the ball. An image whose gradient is zero goes in a random direction (l_2).

    Args:
        eps: radius of the ball on the [0, 1] scale, as a number or ``"8/255"``.
        norm: ``linf`` or ``l2``.
        num_steps: number of gradient steps.
        step_size: step size; None gives the default of the norm.
        loss: what is maximised: ``kl`` ``KL(S(x)||S(x'))``, with S(x) computed once; ``teacher-kl``
            ``KL(T(x)||S(x'))`` from the teacher's stored logits; ``ce`` the cross-entropy of S(x')
            and the artificial labels.
        start: ``gaussian`` ``x + 0.001 N(0, I)``; ``uniform`` a uniform draw from the ball;
            ``kept`` as ``gaussian``, from the perturbation that the epoch before has left of each
            image (Zheng et al. 2020), which the training hands in.
        first_steps: number of steps at the first update of a training, from which it grows to
            ``num_steps`` at the last; see `at`. None leaves it alone.

    Raises:
        InputError: for an unknown norm, loss or start, or a size that makes no sense, naming it.
    """

    def __init__(
        self,
        *,
        eps: float | int | str,
        norm: Norm = "linf",
        num_steps: int = 10,
        step_size: float | int | str | None = None,
        loss: InnerLoss = "kl",
        start: Start = "gaussian",
        first_steps: int | None = None,
    ) -> None:
        one_of(NORMS, norm, "norm")
        self.eps = parse_epsilon(eps)
        self.norm: Norm = norm
        self.num_steps = at_least(1, num_steps, "num_steps")
        default = self.eps / 4 if norm == "linf" else 2 * self.eps / num_steps
        self.step_size = default if step_size is None else parse_epsilon(step_size, key="step_size")
        one_of(get_args(InnerLoss), loss, "loss")
        one_of(get_args(Start), start, "start")
        self.loss: InnerLoss = loss
        self.start: Start = start
        self.first_steps = first_steps
        if first_steps is not None and at_least(1, first_steps, "first_steps") > num_steps:
            raise InputError(f"first_steps: {first_steps} are more than num_steps, {num_steps}")

    def at(self, update: int, num_updates: int) -> "InnerMaximization":
        """Return the inner maximisation of an update of a training.

        The number of steps grows from ``first_steps`` f to ``num_steps`` n, each for an equal share
        of the updates: update u of U takes ``f + floor((n - f + 1) u / U)``. Fewer steps are longer
        by as much, so that they reach as far.

        Args:
            update: its number, from 0, since the training began.
            num_updates: of the whole training.
        """
        if self.first_steps is None:
            return self
        stages = self.num_steps - self.first_steps + 1
        now = copy.copy(self)
        now.num_steps = self.first_steps + stages * update // num_updates
        now.step_size = self.step_size * self.num_steps / now.num_steps
        return now

    def __call__(
        self,
        student: nn.Module,
        images: Float[Tensor, "n c h w"],
        *,
        generator: np.random.Generator,
        teacher_logits: Float[Tensor, "n k"] | None = None,
        labels: Int[Tensor, " n"] | None = None,
    ) -> Float[Tensor, "n c h w"]:
        """Return the adversarial images, in [0, 1] and in the ball around ``images``.

        The student's weights get no gradient, its buffers do not move.

        Args:
            student: the model that is attacked.
            images: in [0, 1].
            generator: of the start, and of random directions.
            teacher_logits: of the images, for ``teacher-kl``.
            labels: of the images, for ``ce``.

        Raises:
            InputError: if the student's logits have no gradient with respect to the images, or what
                the loss needs is missing.
        """
        (adversarial,) = self.perturb_batches(
            student,
            [images],
            generators=[generator],
            teacher_logits=teacher_logits,
            labels=labels,
        )
        return adversarial

    @gradients()
    def perturb_batches(
        self,
        student: nn.Module,
        batches: Sequence[Float[Tensor, "_ c h w"]],
        *,
        generators: Sequence[np.random.Generator],
        noise: Sequence[Float[Tensor, "..."]] | None = None,
        kept: Float[Tensor, "n c h w"] | None = None,
        teacher_logits: Float[Tensor, "n k"] | None = None,
        labels: Int[Tensor, " n"] | None = None,
    ) -> list[Float[Tensor, "_ c h w"]]:
        """Return the adversarial images of several batches, computed in the same passes.

        Each batch gets what it would have got alone, up to rounding, from a generator of its own.
        ``teacher_logits``, ``labels`` and ``kept``, perturbations to begin with, are those of all
        batches, one after the other; ``noise`` is what `start_noise` has drawn from the generators
        before, None if it has not.

        Raises:
            InputError: see `__call__`.
        """
        require_module(student, "student")
        for batch in batches:
            require_images(batch)
        for generator in generators:
            if not isinstance(generator, np.random.Generator):
                raise InputError(
                    "generator: must be a numpy.random.Generator, such as "
                    f"numpy.random.default_rng(0), but is a {type(generator).__name__}"
                )
        student = in_float32(student)
        sizes = [len(batch) for batch in batches]
        images = torch.cat(list(batches))
        start = self._start(images, batches, generators, noise)
        start = start if kept is None else start + kept

        def draw(step: int, places: Tensor, flat: Bool[Tensor, " n"]) -> np.ndarray:  # noqa: ARG001
            pairs = zip(torch.split(flat, sizes), generators, strict=True)
            shape = images.shape[1:]
            return np.concatenate([g.standard_normal((int(own.sum()), *shape)) for own, g in pairs])

        ascent = Ascent(
            num_steps=self.num_steps,
            step_size=self.step_size,
            eps=self.eps,
            norm=self.norm,
            box_first=True,
        )
        with frozen(student):
            adversarial = ascent.run(
                self._objective(student, images, teacher_logits, labels),
                images,
                start=start,
                places=torch.arange(len(images), device=images.device),
                draw=draw,
            )
        return list(torch.split(adversarial, sizes))

    def mean_loss(
        self,
        student: nn.Module,
        images: Float[Tensor, "n c h w"],
        adversarial: Float[Tensor, "n c h w"],
        *,
        teacher_logits: Float[Tensor, "n k"] | None = None,
        labels: Int[Tensor, " n"] | None = None,
    ) -> float:
        """Return the mean of the loss that is maximised, at images that were found by whatever way.

        The arguments are those of `__call__`, and the adversarial images.

        Raises:
            InputError: if what the loss needs is missing.
        """
        student = in_float32(student)
        with frozen(student), torch.no_grad():
            loss = self._loss(student, images, teacher_logits, labels)
            return float(loss(student(adversarial)).mean())

    def start_noise(
        self, generator: np.random.Generator, shape: torch.Size
    ) -> Float[Tensor, "..."]:
        """Draw what the start from images of a shape needs of a generator, before it is needed.

        Returns:
            ``N(0, I)`` of that shape; for the uniform start perturbations of the ball.
        """
        if self.start == "uniform":
            return random_perturbation(shape, eps=self.eps, norm=self.norm, generator=generator)
        return torch.from_numpy(generator.standard_normal(tuple(shape), dtype=np.float32))

    def _start(
        self,
        images: Float[Tensor, "n c h w"],
        batches: Sequence[Tensor],
        generators: Sequence[np.random.Generator],
        noise: Sequence[Tensor] | None,
    ) -> Float[Tensor, "n c h w"]:
        pairs = zip(batches, generators, strict=True)
        drawn = [self.start_noise(g, x.shape) for x, g in pairs] if noise is None else list(noise)
        if self.start == "uniform":
            return (images + torch.cat(drawn).to(images)).clamp(0, 1)
        return images + START_SCALE * torch.cat(drawn).to(images.device)

    def _objective(
        self,
        student: nn.Module,
        images: Float[Tensor, "n c h w"],
        teacher_logits: Float[Tensor, "n k"] | None,
        labels: Int[Tensor, " n"] | None,
    ) -> Objective:
        """Return the loss that is ascended: the mean over the images, one share for each."""
        loss = self._loss(student, images, teacher_logits, labels)

        def objective(x_adv: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
            logits = student(x_adv)
            if not logits.requires_grad:
                raise InputError(
                    "the student's logits have no gradient with respect to the images: its "
                    "forward pass must be differentiable"
                )
            return loss(logits) / len(images), logits

        return objective

    def _loss(
        self,
        student: nn.Module,
        images: Float[Tensor, "n c h w"],
        teacher_logits: Float[Tensor, "n k"] | None,
        labels: Int[Tensor, " n"] | None,
    ) -> Callable[[Tensor], Tensor]:
        """Return what gives the loss of every image from its logits."""
        if self.loss == "ce":
            return _CrossEntropy(_given(labels, "labels", self.loss))
        with torch.no_grad():
            target = (
                student(images)
                if self.loss == "kl"
                else _given(teacher_logits, "teacher_logits", self.loss)
            )
        return partial(kl_divergence, target, reduction="none")


class _CrossEntropy:
    """The loss against labels, which are checked once: to look at them waits for a GPU."""

    def __init__(self, labels: Int[Tensor, " n"]) -> None:
        self._labels = labels
        self._checked = False

    def __call__(self, logits: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
        if not self._checked:
            require_labels(self._labels, logits.shape[1])
            self._checked = True
        return cross_entropy(logits, self._labels)


def _given(value: Tensor | None, key: str, loss: str) -> Tensor:
    if value is None:
        raise InputError(f"{key}: are needed for the inner maximisation's loss {loss!r}")
    return value
