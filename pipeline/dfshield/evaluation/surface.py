"""Loss surfaces: what the loss does around a model's weights, along two random directions.

Li et al., "Visualizing the Loss Landscape of Neural Nets" (NeurIPS 2018); figures 4, 6 and 7 of the
paper. With the weights w and directions d_1, d_2, the surface is

    f(u, v) = L(w + u d_1 + v d_2).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from scipy.interpolate import RegularGridInterpolator
from torch import Tensor, nn

from dfshield.attacks.ascent import Ascent, draw_by_place
from dfshield.attacks.ball import NORMS, Norm, random_start
from dfshield.attacks.losses import cross_entropy
from dfshield.checks import at_least, one_of, positive
from dfshield.classifiers import frozen
from dfshield.epsilon import parse_epsilon

Direction = tuple[Tensor, ...]
"""One tensor for every parameter of a model, in their order."""

_ANGLES = 360


def filter_normalised(model: nn.Module, rng: np.random.Generator) -> Direction:
    """Return a random direction in which every filter is as long as that of the weights.

    ``d_ij <- d_ij / ||d_ij|| * ||w_ij||`` with d standard normal, for output filter j of layer i.
    Biases and the parameters of normalisations, which have one axis, do not move. Two models of one
    architecture get the same draws from equal generators, each at the length of its own filters.

    Args:
        model: around whose weights the surface lies.
        rng: of the draws, one for every number of every parameter.
    """
    return tuple(_scaled(parameter.detach(), rng) for parameter in model.parameters())


def _scaled(weight: Tensor, rng: np.random.Generator) -> Tensor:
    drawn = torch.from_numpy(rng.standard_normal(tuple(weight.shape), dtype=np.float32))
    if weight.ndim < 2:
        return torch.zeros_like(weight)
    drawn = drawn.to(weight)
    lengths = [each.flatten(1).norm(dim=1).clamp_min(1e-10) for each in (weight, drawn)]
    ratio: Tensor = lengths[0] / lengths[1]
    return drawn * ratio.view(-1, *([1] * (weight.ndim - 1)))


def losses_around(
    model: nn.Module,
    directions: tuple[Direction, Direction],
    points: Sequence[tuple[float, float]],
    loss: Callable[[nn.Module], float],
) -> Iterator[float]:
    """Yield ``loss(w + u d_1 + v d_2)`` of every point (u, v).

    The model is moved in place, and is as it was when the iterator ends or is closed.

    Args:
        model: its weights are w.
        directions: d_1 and d_2, on the model's device.
        points: (u, v) each.
        loss: of the model, such as an `AdversarialLoss`.
    """
    weights = [parameter.detach().clone() for parameter in model.parameters()]
    try:
        for u, v in points:
            _place(
                model,
                [w + u * a + v * b for w, a, b in zip(weights, *directions, strict=True)],
            )
            yield loss(model)
    finally:
        _place(model, weights)


def _place(model: nn.Module, weights: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for parameter, weight in zip(model.parameters(), weights, strict=True):
            parameter.copy_(weight)


@dataclass(frozen=True)
class AdversarialLoss:
    """The mean cross-entropy of images that PGD moved against the very model that is asked.

    All images are attacked, those that are wrong from the start too, from one random start for all
    models: the surface has no noise of its own. The model answers in eval mode.

    Attributes:
        eps: radius of the ball on the [0, 1] scale; 0 is the loss on the images as they are.
        norm: ``linf`` or ``l2``.
        num_steps: of PGD.
        step_size: on the [0, 1] scale; None is ``eps / 4``.
        seed: of the start.
        batch_size: images in a pass.

    Raises:
        InputError: for a value that makes no sense, naming it.
    """

    eps: float
    norm: Norm = "linf"
    num_steps: int = 10
    step_size: float | None = None
    seed: int = 0
    batch_size: int = 500

    def __post_init__(self) -> None:
        parse_epsilon(self.eps)
        one_of(NORMS, self.norm, "norm")
        at_least(1, self.num_steps, "num_steps")
        at_least(1, self.batch_size, "batch_size")
        if self.step_size is not None:
            positive(self.step_size, "step_size")

    def __call__(
        self, model: nn.Module, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"]
    ) -> float:
        """Return the loss of a model on images in [0, 1] with these labels."""
        total = 0.0
        with frozen(model):
            for start in range(0, len(x), self.batch_size):
                chunk = slice(start, start + self.batch_size)
                total += self._sum(model, x[chunk], y[chunk], start)
        return total / len(x)

    def _sum(
        self, model: nn.Module, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"], first: int
    ) -> float:
        x_adv = self._attacked(model, x, y, np.random.SeedSequence(self.seed, spawn_key=(first,)))
        with torch.no_grad():
            return float(cross_entropy(model(x_adv), y).double().sum())

    def _attacked(
        self,
        model: nn.Module,
        x: Float[Tensor, "n c h w"],
        y: Int[Tensor, " n"],
        seed: np.random.SeedSequence,
    ) -> Float[Tensor, "n c h w"]:
        if self.eps == 0:
            return x

        def objective(x_adv: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
            logits = model(x_adv)
            return cross_entropy(logits, y[places]), logits

        step = self.eps / 4 if self.step_size is None else self.step_size
        rng = np.random.default_rng(seed)
        return Ascent(num_steps=self.num_steps, step_size=step, eps=self.eps, norm=self.norm).run(
            objective,
            x,
            start=random_start(x, eps=self.eps, norm=self.norm, generator=rng),
            places=torch.arange(len(x), device=x.device),
            draw=draw_by_place(seed, x.shape[1:]),
        )


def mean_rise(
    losses: Float64[np.ndarray, "m m"], at: Float64[np.ndarray, " m"], radius: float
) -> float:
    """Return how far the loss rises on a circle: the mean of f there, less f(0, 0).

    ``1 / 2 pi * integral of f(r cos a, r sin a) da - f(0, 0)``, f interpolated between the points.

    Args:
        losses: by v, then by u.
        at: the coordinates, the same for both axes, from ``-m`` to ``m``.
        radius: r, at most the largest coordinate.
    """
    surface = RegularGridInterpolator((at, at), losses)
    angles = np.arange(_ANGLES) * (2 * np.pi / _ANGLES)
    circle = radius * np.stack([np.sin(angles), np.cos(angles)], axis=1)
    return float(surface(circle).mean() - surface([[0.0, 0.0]])[0])
