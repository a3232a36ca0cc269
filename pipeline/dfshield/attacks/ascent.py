"""Projected steepest ascent, the iteration that FGSM and all kinds of PGD share."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dfshield.attacks.ball import Norm, clip_to_ball, steepest_direction

Objective = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Images (n, c, h, w) and their places in the batch (n,) in; the losses to ascend (n,) and the
attacked model's logits (n, k) out."""


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
        steps: number of steps.
        step: their size.
        eps: radius of the ball.
        norm: ``linf`` or ``l2``.
        leave_when_wrong: images that are predicted wrong take no further step; otherwise the last
            iterate counts, right or wrong.
    """

    steps: int
    step: float
    eps: float
    norm: Norm
    leave_when_wrong: bool = False

    def run(
        self,
        objective: Objective,
        x: Float[Tensor, "n c h w"],
        y: Int[Tensor, " n"],
        *,
        start: Float[Tensor, "n c h w"],
        places: Int[Tensor, " n"],
        seed: np.random.SeedSequence,
    ) -> Float[Tensor, "n c h w"]:
        """Return where the steps from ``start`` lead.

        Args:
            objective: what to ascend.
            x: images in [0, 1], the centres of the balls.
            y: labels.
            start: images to start from.
            places: of the images in their batch; an image's random directions depend on its place
                alone.
            seed: of directions for images without a gradient (l_2).
        """
        result, left = start.clone(), torch.arange(len(x), device=x.device)
        x_adv = start
        for number in range(self.steps):
            gradient, logits = _gradient(objective, x_adv, places[left])
            if self.leave_when_wrong:
                result[left] = x_adv
                right = logits.argmax(1) == y[left]
                left, x_adv, gradient = left[right], x_adv[right], gradient[right]
                if len(left) == 0:
                    return result
            draw = _by_place(seed, number, places[left], x.shape[1:])
            x_adv = x_adv + self.step * steepest_direction(gradient, self.norm, draw)
            # Ball first for l_2 too (unlike `project`): the order in which PGD accuracies are
            # reported.
            delta = clip_to_ball(x_adv - x[left], eps=self.eps, norm=self.norm)
            x_adv = (x[left] + delta).clamp(0, 1)
        result[left] = x_adv
        return result


def _gradient(
    objective: Objective, x: Float[Tensor, "n c h w"], places: Int[Tensor, " n"]
) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n k"]]:
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        losses, logits = objective(x, places)
        # The sum, not the mean: an image's gradient does not depend on its batch.
        loss = losses.sum()
    (gradient,) = torch.autograd.grad(loss, [x])
    return gradient, logits.detach()


def _by_place(
    seed: np.random.SeedSequence, step: int, places: Int[Tensor, " n"], shape: torch.Size
) -> Callable[[Bool[Tensor, " n"]], np.ndarray]:
    """Return the drawing of directions: each depends on seed, step and the image's place alone."""

    def draw(flat: Bool[Tensor, " n"]) -> np.ndarray:
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
