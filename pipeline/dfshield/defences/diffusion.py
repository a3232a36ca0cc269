"""The variance-preserving diffusion, forward in one step and back by Euler steps."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

BETA_FIRST, BETA_LAST = 0.1, 20.0
END = 1e-5
"""Time at which the way back ends."""

NoiseOf = Callable[[int], Tensor]
"""The number of a step in, standard normal noise of the images' shape out: the same every time."""
Denoiser = Callable[[Tensor, Tensor], Tensor]
"""Images at a time (n, c, h, w) and the time (n,) in, the noise that is in them out."""


def beta(t: float) -> float:
    """Return the rate of the noise at a time in [0, 1]."""
    return BETA_FIRST + t * (BETA_LAST - BETA_FIRST)


def kept(t: float) -> float:
    """Return ``abar(t) = exp(-int_0^t beta)``: the share of the image's variance that is left."""
    return math.exp(-(BETA_FIRST * t + (BETA_LAST - BETA_FIRST) * t**2 / 2))


def diffused(
    x: Float[Tensor, "n c h w"], t: float, noise: Float[Tensor, "n c h w"]
) -> Float[Tensor, "n c h w"]:
    """Return ``sqrt(abar) x + sqrt(1 - abar) noise``, images on the scale [-1, 1] at a time."""
    return math.sqrt(kept(t)) * x + math.sqrt(1 - kept(t)) * noise


def reverse_step(
    x: Float[Tensor, "n c h w"],
    t: float,
    step: float,
    denoiser: Denoiser,
    noise: Float[Tensor, "n c h w"],
) -> Float[Tensor, "n c h w"]:
    """Return images one Euler step earlier on the reverse SDE (Song et al. 2021, eq. 6).

    ``x + (beta x / 2 + beta s(x, t)) step + sqrt(beta step) noise`` with the score
    ``s = -e(x, t) / sqrt(1 - abar)`` of the noise e that the network sees.
    """
    times = torch.full((len(x),), t, dtype=x.dtype, device=x.device)
    score = -denoiser(x, times) / math.sqrt(1 - kept(t))
    drift = beta(t) * (0.5 * x + score)
    return x + step * drift + math.sqrt(beta(t) * step) * noise


def purified(
    x: Float[Tensor, "n c h w"], t: float, step: float, denoiser: Denoiser, noise: NoiseOf
) -> Float[Tensor, "n c h w"]:
    """Return images diffused to a time and brought back by steps (DiffPure, Nie et al. 2022).

    Gradients go through all steps; of each only the images before it are kept, and it is computed
    again on the way back, so that memory does not grow with what is inside a step.

    Args:
        x: on the scale [-1, 1].
        t: to which they are diffused.
        step: of the way back; the last one may be shorter.
        denoiser: the network.
        noise: of the diffusion (number 0) and of every step.
    """
    found, number = diffused(x, t, noise(0)), 0
    while t > END:
        number += 1
        size = min(step, t - END)
        found = _kept_small(found, t, size, denoiser, noise, number)
        t = t - size if size == step else END
    return found


def _kept_small(
    x: Tensor, t: float, step: float, denoiser: Denoiser, noise: NoiseOf, number: int
) -> Tensor:
    def taken(x: Tensor) -> Tensor:
        return reverse_step(x, t, step, denoiser, noise(number))

    if not (torch.is_grad_enabled() and x.requires_grad):
        return taken(x)
    found: Tensor = checkpoint(taken, x, use_reentrant=False, preserve_rng_state=False)
    return found
