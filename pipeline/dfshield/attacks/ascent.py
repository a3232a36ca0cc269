"""Projected steepest ascent, the iteration that FGSM and all kinds of PGD share."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dfshield.attacks.ball import Norm, clip_to_ball, project, steepest_direction

Objective = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Images (n, c, h, w) and their places in the batch (n,) in; the losses to ascend (n,) and the
attacked model's logits (n, k) out."""

Draw = Callable[[int, Tensor, Tensor], np.ndarray]
"""The step's number, the images' places (n,) and a mask (n,) of those without a gradient in; one
standard normal array (c, h, w) for each of these out."""


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch under attack: images, labels, and the attacked model's logits of the images."""

    x: Float[Tensor, "n c h w"]
    y: Int[Tensor, " n"]
    clean: Float[Tensor, "n k"]


@dataclass(frozen=True)
class Ascent:
    """``x' <- clip_[0,1](x + P(x' + step * d(g) - x))``, repeated (Madry et al., 2018).

    g is the gradient of the objective, d its steepest direction, P the projection onto the ball of
    radius ``eps``.

    Attributes:
        num_steps: number of steps.
        step_size: their size.
        eps: radius of the ball.
        norm: ``linf`` or ``l2``.
        leave_when_wrong: images that are predicted wrong take no further step; otherwise the last
            iterate counts, right or wrong.
        draws: gradients averaged in every step, for a model that draws random numbers (EOT, Athalye
            et al. 2018).
        box_first: clip to [0, 1] before the ball, which differs for l_2 (see `project`). PGD
            accuracies are reported with the ball first; the authors train with the box first.
    """

    num_steps: int
    step_size: float
    eps: float
    norm: Norm
    leave_when_wrong: bool = False
    box_first: bool = False
    draws: int = 1

    def run(
        self,
        objective: Objective,
        x: Float[Tensor, "n c h w"],
        *,
        start: Float[Tensor, "n c h w"],
        places: Int[Tensor, " n"],
        draw: Draw,
        y: Int[Tensor, " n"] | None = None,
    ) -> Float[Tensor, "n c h w"]:
        """Return where the steps from ``start`` lead.

        Args:
            objective: what to ascend.
            x: images in [0, 1], the centres of the balls.
            start: images to start from.
            places: of the images in their batch.
            draw: draws directions for images without a gradient (l_2).
            y: labels, for ``leave_when_wrong``.
        """
        result, left = start.clone(), torch.arange(len(x), device=x.device)
        x_adv = start
        for number in range(self.num_steps):
            gradient, logits = self._gradient(objective, x_adv, places)
            if self.leave_when_wrong:
                assert y is not None
                result[left] = x_adv
                right = logits.argmax(1) == y
                left, places, x, y = left[right], places[right], x[right], y[right]
                x_adv, gradient = x_adv[right], gradient[right]
                if len(left) == 0:
                    return result
            direction = steepest_direction(gradient, self.norm, partial(draw, number, places))
            x_adv = self._inside(x_adv + self.step_size * direction, x)
        if self.leave_when_wrong:
            result[left] = x_adv
            return result
        return x_adv

    def _gradient(
        self, objective: Objective, x: Float[Tensor, "n c h w"], places: Int[Tensor, " n"]
    ) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n k"]]:
        """Return the mean gradient over the draws, and the logits of the last."""
        gradient, logits = gradient_and_logits(objective, x, places)
        for _ in range(self.draws - 1):
            another, logits = gradient_and_logits(objective, x, places)
            gradient = gradient + another
        return (gradient if self.draws == 1 else gradient / self.draws), logits

    def _inside(
        self, x_adv: Float[Tensor, "n c h w"], x: Float[Tensor, "n c h w"]
    ) -> Float[Tensor, "n c h w"]:
        if self.box_first:
            return project(x_adv, x, eps=self.eps, norm=self.norm)
        return (x + clip_to_ball(x_adv - x, eps=self.eps, norm=self.norm)).clamp(0, 1)


def gradient_and_logits(
    objective: Objective, x: Float[Tensor, "n c h w"], places: Int[Tensor, " n"]
) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n k"]]:
    """Return the gradient of an objective at images, and the logits there, both detached."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        losses, logits = objective(x, places)
        # The sum, not the mean: an image's gradient does not depend on its batch.
        loss = losses.sum()
    (gradient,) = torch.autograd.grad(loss, [x])
    return gradient, logits.detach()


def draw_by_place(seed: np.random.SeedSequence, shape: torch.Size) -> Draw:
    """Return the draws of an attack: each depends on seed, step and the image's place alone.

    Args:
        seed: of the run of the attack.
        shape: of an image.
    """

    def draw(step: int, places: Int[Tensor, " n"], flat: Bool[Tensor, " n"]) -> np.ndarray:
        return np.stack(
            [
                child_generator(seed, step, place).standard_normal(tuple(shape))
                for place in places[flat].tolist()
            ]
        )

    return draw


def child_generator(seed: np.random.SeedSequence, *key: int) -> np.random.Generator:
    """Return the generator of a place below a seed, whatever was drawn elsewhere."""
    child = np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, *key))
    return np.random.default_rng(child)
