"""Geometry of the two threat models: the l_inf and the l_2 ball around an image."""

from collections.abc import Callable
from typing import get_args

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dfshield.epsilon import Norm as Norm

NORMS: tuple[Norm, ...] = get_args(Norm)


def perturbation_norm(delta: Float[Tensor, "n c h w"], norm: Norm) -> Float[Tensor, " n"]:
    """Return the size of every image's perturbation: ``max |delta|`` or ``(sum delta^2)^(1/2)``."""
    order = float("inf") if norm == "linf" else 2
    size: Tensor = torch.linalg.vector_norm(delta.flatten(1), ord=order, dim=1)
    return size


def clip_to_ball(
    delta: Float[Tensor, "n c h w"], *, eps: float, norm: Norm
) -> Float[Tensor, "n c h w"]:
    """Return the closest perturbation of size ``eps`` or less."""
    if norm == "linf":
        return delta.clamp(-eps, eps)
    size = perturbation_norm(delta, norm).clamp_min(1e-12)
    return delta * (eps / size).clamp_max(1.0).view(-1, 1, 1, 1)


def project(
    x_adv: Float[Tensor, "n c h w"], x: Float[Tensor, "n c h w"], *, eps: float, norm: Norm
) -> Float[Tensor, "n c h w"]:
    """Return ``x_adv`` moved into the ball of radius ``eps`` around ``x`` and into [0, 1].

    l_inf clips to the ball, then to [0, 1]: the closest point of both. l_2 clips to [0, 1], then
    scales the perturbation down to ``eps``, which cannot leave [0, 1] again since ``x`` lies in it,
    and gives away less of the radius than the other order.
    """
    if norm == "linf":
        return (x + clip_to_ball(x_adv - x, eps=eps, norm=norm)).clamp(0, 1)
    inside = x + clip_to_ball(x_adv.clamp(0, 1) - x, eps=eps, norm=norm)
    return inside.clamp(0, 1)  # rounding alone


def normalise_gradient(
    gradient: Float[Tensor, "n c h w"], norm: Norm, generator: np.random.Generator
) -> Float[Tensor, "n c h w"]:
    """Return the direction of steepest ascent: ``sign(g)`` for l_inf, ``g / ||g||_2`` for l_2.

    For l_2 an image whose gradient is exactly zero gets a random unit direction drawn from
    ``generator``; for l_inf it stays where it is.
    """
    return steepest_direction(
        gradient,
        norm,
        lambda flat: generator.standard_normal((int(flat.sum()), *gradient.shape[1:])),
    )


def steepest_direction(
    gradient: Float[Tensor, "n c h w"],
    norm: Norm,
    draw: Callable[[Bool[Tensor, " n"]], np.ndarray],
) -> Float[Tensor, "n c h w"]:
    """Return :func:`normalise_gradient`, with directions for the marked images from ``draw``.

    ``draw`` is called where a gradient is exactly zero, with a mask of those images, and returns
    one standard normal array (c, h, w) for each.
    """
    if norm == "linf":
        return gradient.sign()
    # Dividing by the largest entry first keeps the squares of tiny gradients (a confident
    # classifier's) from underflowing to zero.
    peak = gradient.abs().amax(dim=(1, 2, 3), keepdim=True)
    flat = peak.view(-1) == 0
    direction = gradient / peak.masked_fill(peak == 0, 1.0)
    if flat.any():
        direction[flat] = torch.from_numpy(draw(flat)).to(gradient)
    return direction / perturbation_norm(direction, norm).view(-1, 1, 1, 1)


def random_start(
    x: Float[Tensor, "n c h w"], *, eps: float, norm: Norm, generator: np.random.Generator
) -> Float[Tensor, "n c h w"]:
    """Return ``x`` plus a perturbation drawn uniformly from the ball, clipped to [0, 1]."""
    delta = random_perturbation(x.shape, eps=eps, norm=norm, generator=generator)
    return (x + delta.to(x)).clamp(0, 1)


def random_perturbation(
    shape: torch.Size, *, eps: float, norm: Norm, generator: np.random.Generator
) -> Float[Tensor, "n c h w"]:
    """Return perturbations of a shape (n, c, h, w) drawn uniformly from the ball, in float64."""
    if norm == "linf":
        return torch.from_numpy(generator.uniform(-eps, eps, size=tuple(shape)))
    direction = torch.from_numpy(generator.standard_normal(tuple(shape)))
    direction = direction / perturbation_norm(direction, norm).view(-1, 1, 1, 1)
    # The share of a d-dimensional ball within radius r is r^d.
    radius = generator.uniform(size=(shape[0], 1, 1, 1)) ** (1 / shape[1:].numel())
    delta: Tensor = eps * torch.from_numpy(radius) * direction
    return delta
