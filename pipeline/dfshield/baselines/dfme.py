"""DFME: a generator that seeks disagreement, by forward differences (Truong et al. 2021)."""

from collections.abc import Callable
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dfshield.baselines.base import Access, Baseline
from dfshield.baselines.networks import changes_of, drawn_from
from dfshield.baselines.student import Init
from dfshield.baselines.training import BaselineTraining
from dfshield.checks import at_least, non_negative, one_of, positive, share
from dfshield.classifiers import Classifier, float32_logits, frozen
from dfshield.errors import InputError
from dfshield.synthesis.generator_network import GeneratorNetwork, pixels_of
from dfshield.training import InnerMaximization

Gradient = Literal["differences", "exact"]

DROP = 0.3
"""What both learning rates are multiplied by at every drop."""
STEPS_PER_EPOCH = 50


def recovered_logits(logits: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """Return ``log p - mean_k log p``: what probabilities tell of logits, whose mean is then 0."""
    known = F.log_softmax(logits, dim=1)
    return known - known.mean(dim=1, keepdim=True)


def disagreement(
    student: Float[Tensor, "n k"], teacher: Float[Tensor, "n k"]
) -> Float[Tensor, " n"]:
    """Return ``(1/k) sum_k |S - T|`` of every image."""
    return (student - teacher).abs().mean(dim=1)


def forward_differences(
    values_of: Callable[[Float[Tensor, "n c h w"]], Float[Tensor, " n"]],
    at: Float[Tensor, "n c h w"],
    *,
    step: float,
    directions: Float[Tensor, "m n c h w"],
) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, " n"]]:
    """Return an estimate of the gradient of every image's value, and the values.

    ``(d / m) sum_j (f(a + step u_j) - f(a)) / step u_j`` with u_j the direction, scaled to length
    1, and d the components of an image: its mean over all directions is the gradient.

    Args:
        values_of: f, a value for every image; called m + 1 times.
        at: a.
        step: of the difference.
        directions: any lengths but 0.
    """
    here = values_of(at)
    lengths = torch.linalg.vector_norm(directions.flatten(2), dim=2)[..., None, None, None]
    estimate = torch.zeros_like(at)
    for unit in directions / lengths:
        slope = (values_of(at + step * unit) - here) / step
        estimate += slope[:, None, None, None] * unit
    return estimate * (at[0].numel() / len(directions)), here


class DFME(Baseline):
    """A generator of images that student and teacher disagree about, and a student that follows.

    A step: the generator maximises ``L1(S(x), z_T(x))`` once; then, student_steps times, the
    student minimises ``L1(S(x'), z_T(x))`` on new images x, x' being adversarial. L1 is the mean
    over images and classes, z_T the teacher's log-probabilities less their mean over the classes.

    Published: the losses (with x in place of x'), the generator, the forward differences on what
    its tanh is given, SGD (momentum 0.9) and Adam, and both learning rates times 0.3 at each drop.
    The student is in eval mode where the generator's gradient is taken.

    Args:
        query_budget: images that the teacher may be asked about, which says how many steps there
            are; 2,000,000 for SVHN.
        batch_size: images of an update.
        student_steps: updates of the student in a step.
        student_learning_rate: SGD's.
        generator_learning_rate: Adam's; 5e-5 for SVHN.
        weight_decay: of the student.
        drops: at which shares of the budget the learning rates fall; [0.5, 0.8] for SVHN.
        gradient: of the disagreement: ``differences``, which asks for logits alone, or ``exact``,
            through the teacher.
        directions: of the differences.
        difference: step of the differences.
        latent: components of a code, ``N(0, I)``.
        width: channels of the generator.
        init: where the student begins: ``teacher`` or ``scratch``.
    """

    name: ClassVar[str] = "dfme"

    def __init__(
        self,
        *,
        query_budget: int = 20_000_000,
        batch_size: int = 256,
        student_steps: int = 5,
        student_learning_rate: float | int = 0.1,
        generator_learning_rate: float | int = 1e-4,
        weight_decay: float | int = 5e-4,
        drops: tuple[float, ...] = (0.1, 0.3, 0.5),
        gradient: Gradient = "differences",
        directions: int = 1,
        difference: float | int = 1e-3,
        latent: int = 256,
        width: int = 128,
        init: Init = "teacher",
    ) -> None:
        super().__init__(
            init=init,
            batch_size=batch_size,
            student_learning_rate=student_learning_rate,
            generator_learning_rate=generator_learning_rate,
        )
        self.query_budget = at_least(1, query_budget, "query_budget")
        self.student_steps = at_least(1, student_steps, "student_steps")
        self.weight_decay = non_negative(weight_decay, "weight_decay")
        self.drops = _shares(drops)
        one_of(get_args(Gradient), gradient, "gradient")
        self.gradient: Gradient = gradient
        self.directions = at_least(1, directions, "directions")
        self.difference = positive(difference, "difference", most=1.0)
        self.latent = at_least(1, latent, "latent")
        self.width = at_least(2, width, "width")
        self._require_a_step()

    def _require_a_step(self) -> None:
        """Refuse a budget that ends before the first step, by the option that is too much for it.

        Raises:
            InputError: naming the option.
        """
        of_generator = self.batch_size * (1 + self.directions)
        for key, queries in (
            ("batch_size", self.batch_size),
            ("directions", of_generator),
            ("student_steps", self.queries_per_step),
        ):
            if queries > self.query_budget:
                raise InputError(
                    f"{key}: the query_budget of {self.query_budget:,} ends before the first "
                    f"step, which asks about {self.queries_per_step} images"
                )

    @property
    def queries_per_step(self) -> int:
        """Images that the teacher is asked about in a step."""
        of_generator = 1 if self.gradient == "exact" else 1 + self.directions
        return self.batch_size * (of_generator + self.student_steps)

    @property
    def steps(self) -> int:
        """How many steps the budget is for."""
        return self.query_budget // self.queries_per_step

    @property
    def steps_per_epoch(self) -> int:
        """As many as the published script calls an epoch."""
        return STEPS_PER_EPOCH

    @property
    def access(self) -> Access:
        """Logits, or gradients where these are exact."""
        return "gradients" if self.gradient == "exact" else "logits"

    def begin(self, teacher: Classifier, *, inner: InnerMaximization, seed: int) -> "DFMETraining":
        """Return the training; see `Baseline`."""
        return DFMETraining(teacher, self, inner=inner, seed=seed)


def _shares(drops: object) -> tuple[float, ...]:
    if not isinstance(drops, tuple | list):
        raise InputError(f"drops: {drops!r} must be a list of shares of the budget")
    return tuple(share(value, "drops") for value in drops)


class DFMETraining(BaselineTraining):
    """The training of DFME; see `DFME`."""

    network: GeneratorNetwork

    def __init__(
        self, teacher: Classifier, options: DFME, *, inner: InnerMaximization, seed: int
    ) -> None:
        with drawn_from(seed):
            network = GeneratorNetwork(options.latent, teacher.input_shape, width=options.width)
        super().__init__(
            teacher,
            network,
            options,
            inner=inner,
            seed=seed,
        )
        self.changed = changes_of(
            teacher.input_shape, width=options.width, latent=options.latent, published_latent=256
        )
        self._options = options
        self._optimise(
            student=torch.optim.SGD(
                self.student.parameters(),
                lr=options.student_learning_rate,
                momentum=0.9,
                weight_decay=options.weight_decay,
            ),
            generator=torch.optim.Adam(network.parameters(), lr=options.generator_learning_rate),
        )

    def _rate_factor(self, step: int) -> float:
        return DROP ** sum(step >= drop * self.steps for drop in self._options.drops)

    def _codes(self, draw: np.random.Generator, size: int) -> Float[Tensor, "n d"]:
        return self._normal(draw, size, self._options.latent)

    def _images(self, draw: np.random.Generator, size: int) -> Float[Tensor, "n c h w"]:
        images: Tensor = self.network(self._codes(draw, size))
        return images

    def _step(self, draw: np.random.Generator) -> dict[str, float]:
        of_generator = self._update_generator(draw)
        losses = [self._update_student(draw) for _ in range(self._options.student_steps)]
        return {"loss": float(np.mean(losses)), "loss_generator": of_generator}

    def _update_generator(self, draw: np.random.Generator) -> float:
        """Let the generator maximise the disagreement; return the loss, its negative."""
        made = self.network.preactivation(self._codes(draw, self.batch_size))
        if self._options.gradient == "exact":
            self.queries += len(made)
            images = self._looked_at(pixels_of(made))
            with frozen(self.student):
                student = float32_logits(self.student, images)
                loss = -disagreement(student, recovered_logits(self.teacher(images))).mean()
                self._descend("generator", loss)
            return loss.item()
        shape = (self._options.directions, *made.shape)
        with torch.no_grad():
            slope, values = forward_differences(
                self._loss_of_images,
                made.detach(),
                step=self._options.difference,
                directions=self._normal(draw, *shape),
            )
        # What has the estimate for its gradient with respect to what was made.
        self._descend("generator", (made * slope / len(made)).sum())
        return values.mean().item()

    def _loss_of_images(self, made: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
        images = self._looked_at(pixels_of(made))
        with frozen(self.student):
            student = float32_logits(self.student, images)
        return -disagreement(student, recovered_logits(self._ask(images)))

    def _update_student(self, draw: np.random.Generator) -> float:
        with torch.no_grad():
            images = self._looked_at(self._images(draw, self.batch_size))
        target = recovered_logits(self._ask(images))
        adversarial = self._attacked(images, draw)
        loss = disagreement(self._passes.train_pass(adversarial), target).mean()
        self._descend("student", loss)
        return loss.item()
