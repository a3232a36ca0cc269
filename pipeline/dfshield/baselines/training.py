"""A generator and the student in training together, step by step."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from dfshield.baselines.base import Baseline
from dfshield.baselines.student import student_of
from dfshield.classifiers import (
    Classifier,
    float32_logits,
    frozen,
    gradients,
    load_state,
)
from dfshield.engine.acceleration import Acceleration
from dfshield.errors import DfshieldError, InputError
from dfshield.seeds import RngStream, derived_seed, generator, torch_generators, whole_seed
from dfshield.synthesis.base import frozen_copy
from dfshield.synthesis.generated import collapsed
from dfshield.training import InnerMaximization, require_trainable
from dfshield.training.passes import StudentPasses


class _NotFiniteError(Exception):
    """Ends a step of which something is not finite."""


class BaselineTraining(ABC):
    """A generator and a student in training. It can be left after any step and gone on with later.

    A subclass writes :meth:`_step` and :meth:`_images`, and names its optimisers by `_optimise`.
    Step t draws from the generator of ``(seed, BASELINE, t)``, t from 1; step 0 is the beginning.

    The student's BatchNorm moves in its train-mode passes, as in the published scripts; attacks see
    it in eval mode. That a loss, a weight or an answer is not finite ends the training with the
    weights of before that step: the result is a student that says so.

    Args:
        teacher: see `Baseline.begin`.
        network: the generator, at its beginning, on the CPU.
        options: of the method.
        inner: see `Baseline.begin`.
        seed: of the run.

    Attributes:
        teacher: a copy, its weights frozen.
        student: what is hardened.
        network: the generator, in train mode.
        steps_done: how many steps are done.
        queries: images that the teacher was asked about, each time counted.
        diverged: the step in which something was not finite; None if nothing was.
        collapsed: the first step of which all images were equal; None if none were.
        changed: how the generator differs from the published one, for images of this size.
    """

    changed: tuple[str, ...] = ()

    def __init__(
        self,
        teacher: Classifier,
        network: nn.Module,
        options: Baseline,
        *,
        inner: InnerMaximization,
        seed: int,
    ) -> None:
        if inner.loss != "kl":
            raise InputError(f"inner.loss: {inner.loss}, but the baselines' images ascend kl alone")
        self.teacher = frozen_copy(teacher)
        self.student = student_of(self.teacher, options.init, seed=seed)
        self.network = network.to(self.device).train()
        self.inner, self.batch_size = inner, options.batch_size
        self.steps, self.steps_per_epoch = options.steps, options.steps_per_epoch
        self.steps_done = 0
        self.queries = 0
        self.diverged: int | None = None
        self.collapsed: int | None = None
        self._seed = whole_seed(seed)
        self._passes = StudentPasses(
            self.student,
            image_shape=teacher.input_shape,
            full_size=options.batch_size,
            together=1,
            acceleration=Acceleration(),
        )
        self._blank = torch.zeros(2, *teacher.input_shape, device=self.device)
        require_trainable(self.student, self._blank, name=teacher.architecture.source)
        self.student.train()

    def _optimise(self, *, student: Optimizer, generator: Optimizer) -> None:
        """Take over the optimisers, whose learning rates are those of the beginning."""
        self._optimizers = {"student": student, "generator": generator}
        self._rates = {
            name: [group["lr"] for group in optimizer.param_groups]
            for name, optimizer in self._optimizers.items()
        }

    @property
    def device(self) -> torch.device:
        """Where the teacher lies."""
        return self.teacher.mean.device

    @property
    def done(self) -> bool:
        """Whether no step is left, or none can be done."""
        return self.diverged is not None or self.steps_done >= self.steps

    @abstractmethod
    def _step(self, draw: np.random.Generator) -> dict[str, float]:
        """Update generator and student; return the losses by name, ``loss`` the student's."""

    @abstractmethod
    def _images(self, draw: np.random.Generator, size: int) -> Float[Tensor, "n c h w"]:
        """Return images of the generator in the mode in which it is, in [0, 1]."""

    def _rate_factor(self, step: int) -> float:
        """Return what all learning rates are multiplied by in a step, counted from 0."""
        del step  # constant, unless the method says otherwise
        return 1.0

    def step(self) -> dict[str, float]:
        """Do the next step and return its losses by name; nothing of a step that diverges.

        ``loss`` is the student's, where it was trained in this step; ``loss_generator`` what the
        generator minimised, ``loss_...`` its terms.

        Raises:
            DfshieldError: if no step is left.
        """
        if self.done:
            raise DfshieldError(f"step: {self.steps_done} of {self.steps} are done, none is left")
        number = self.steps_done + 1
        self._set_rates(self._rate_factor(self.steps_done))
        place = derived_seed(self._seed, RngStream.BASELINE, number)
        before = deepcopy([part.state_dict() for part in (self.student, self.network)])
        try:
            with gradients(), torch_generators(place, self.device):
                losses = self._step(generator(self._seed, RngStream.BASELINE, number))
            self._require_finite_answers()
        except _NotFiniteError:
            self._passes.take()
            for part, state in zip((self.student, self.network), before, strict=True):
                load_state(part, state)
            self.diverged = number
            return {}
        self.steps_done = number
        return losses

    def _require_finite_answers(self) -> None:
        with frozen(self.student), torch.no_grad():
            answers = float32_logits(self.student, self._blank)
        if not bool(answers.isfinite().all()):
            raise _NotFiniteError

    def _set_rates(self, factor: float) -> None:
        for name, optimizer in self._optimizers.items():
            for group, rate in zip(optimizer.param_groups, self._rates[name], strict=True):
                group["lr"] = rate * factor

    def _descend(self, which: str, loss: Float[Tensor, ""]) -> None:
        """Take a step of an optimiser along the gradient of a loss; nothing else gets one.

        Raises:
            _NotFiniteError: if the loss is not finite, or what it led to.
        """
        optimizer = self._optimizers[which]
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        found = torch.autograd.grad(loss, weights, allow_unused=True)
        for weight, gradient in zip(weights, found, strict=True):
            weight.grad = gradient
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self._passes.apply(self._passes.take())
        state = (*self.student.state_dict().values(), *self.network.state_dict().values())
        if not bool(torch.stack([value.isfinite().all() for value in (loss, *state)]).all()):
            raise _NotFiniteError

    def _ask(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Return the teacher's logits, without a gradient, and count the images."""
        self.queries += len(images)
        with torch.no_grad():
            logits: Tensor = self.teacher(images)
        return logits

    def _looked_at(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Return images of the generator; note where all of them are equal.

        Raises:
            _NotFiniteError: if a pixel is not finite.
        """
        if not bool(images.isfinite().all()):
            raise _NotFiniteError
        if self.collapsed is None and collapsed(images.detach()):
            self.collapsed = self.steps_done + 1
        return images

    def _attacked(
        self, images: Float[Tensor, "n c h w"], draw: np.random.Generator
    ) -> Float[Tensor, "n c h w"]:
        """Return adversarial images of the student (A5)."""
        return self.inner(self.student, images, generator=draw)

    def _normal(self, draw: np.random.Generator, *shape: int) -> Float[Tensor, "..."]:
        """Return ``N(0, I)`` of a shape, drawn on the CPU."""
        return torch.from_numpy(draw.standard_normal(shape, dtype=np.float32)).to(self.device)

    def samples(self, size: int) -> Float[Tensor, "n c h w"]:
        """Return images of the generator in eval mode, on the CPU: the same ones for a state."""
        self.network.eval()
        with torch.no_grad():
            images = self._images(generator(self._seed, RngStream.BASELINE, 0, 2), size)
        self.network.train()
        return images.cpu()

    def state_dict(self) -> dict[str, Any]:
        """Return what the remaining steps depend on: tensors and plain containers."""
        return {
            "done": self.steps_done,
            "queries": self.queries,
            "diverged": self.diverged,
            "collapsed": self.collapsed,
            "student": self.student.state_dict(),
            "generator": self.network.state_dict(),
            "optimizers": {name: one.state_dict() for name, one in self._optimizers.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned; the result is that of one that never stopped."""
        self.steps_done, self.queries = state["done"], state["queries"]
        self.diverged, self.collapsed = state["diverged"], state["collapsed"]
        load_state(self.student, state["student"])
        load_state(self.network, state["generator"])
        for name, optimizer in self._optimizers.items():
            optimizer.load_state_dict(deepcopy(state["optimizers"][name]))

    def generator_weights(self) -> dict[str, Tensor]:
        """Return copies of the generator's weights and buffers on the CPU."""
        return {
            name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, value in self.network.state_dict().items()
        }
