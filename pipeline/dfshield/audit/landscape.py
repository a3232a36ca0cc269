"""The loss around images: is it smooth enough for its gradient to mean something?"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from dfshield.attacks import normalise_gradient, random_start
from dfshield.audit.checks import ATHALYE, Check, Landscape, Verdict
from dfshield.audit.subject import Subject

GRID, LINE = 21, 61
"""Points of the surface's axes, and of a line."""
ROUGH_WARN, ROUGH_FAIL = 0.4, 0.6
"""Median roughness of the lines; see `roughness`."""
NEARBY = 0.1
"""How far from an image, in radii of the ball, its gradient is taken a second time."""
AGREE_WARN, AGREE_FAIL = 0.4, 0.2
"""Median cosine of the two gradients."""


def landscape(subject: Subject, *, num_images: int = 16) -> Landscape:
    """Return the cross-entropy around the first images that are answered right.

    It is computed from logits in double precision, where it does not saturate.
    """
    right = (subject.logits(subject.x).argmax(1) == subject.y).nonzero().squeeze(1)
    chosen = (right if len(right) else torch.arange(len(subject)))[:num_images]
    x, y = subject.x[chosen], subject.y[chosen]
    generator = np.random.default_rng(np.random.SeedSequence(subject.seed))
    gradient = subject.gradient(x, y).nan_to_num()
    uphill = normalise_gradient(gradient, subject.norm, generator)
    draw = torch.from_numpy(generator.standard_normal(tuple(x.shape))).to(x)
    aside = normalise_gradient(draw, subject.norm, generator)
    offset = random_start(
        torch.full_like(x, 0.5), eps=NEARBY * subject.eps, norm=subject.norm, generator=generator
    )
    moved = subject.gradient(_beside(x, offset - 0.5), y).nan_to_num()
    # In double precision: the squares of a confident classifier's gradient underflow.
    agreement = F.cosine_similarity(gradient.double().flatten(1), moved.double().flatten(1), eps=0)
    positions, line = np.linspace(-1, 1, GRID), np.linspace(-1, 1, LINE)
    # Evenly spaced points would not see a ripple that is as long as their distance.
    line[1:-1] += generator.uniform(-0.6, 0.6, LINE - 2) / LINE

    def loss(u: float, v: float) -> Float[Tensor, " n"]:
        return _loss(subject, x + subject.eps * (u * uphill + v * aside), y)

    surface = [[float(loss(u, v).mean()) for u in positions] for v in positions]
    along_gradient = torch.stack([loss(u, 0.0) for u in line], dim=1).tolist()
    along_random = torch.stack([loss(0.0, v) for v in line], dim=1).tolist()
    return Landscape(
        positions=tuple(positions.tolist()),
        surface=tuple(map(tuple, surface)),
        line_positions=tuple(line.tolist()),
        along_gradient=tuple(map(tuple, along_gradient)),
        along_random=tuple(map(tuple, along_random)),
        gradient_agreement=tuple(agreement.nan_to_num().tolist()),
    )


def _loss(
    subject: Subject, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"]
) -> Float[Tensor, " n"]:
    logits = subject.logits(x.clamp(0, 1)).double()
    # What is not finite has a check of its own.
    return F.cross_entropy(logits, y, reduction="none").nan_to_num(posinf=0.0)


def _beside(
    x: Float[Tensor, "n c h w"], offset: Float[Tensor, "n c h w"]
) -> Float[Tensor, "n c h w"]:
    """Return ``x + offset``, with the sign turned round where that leaves [0, 1]."""
    moved = x + offset
    return torch.where((moved < 0) | (moved > 1), x - offset, moved).clamp(0, 1)


def roughness(
    positions: Sequence[float] | np.ndarray, values: Sequence[float] | np.ndarray
) -> float | None:
    """Return how rough a function on increasing positions is; None if it is flat.

    ``sum |s[i+1] - s[i]| / (2 sum |s[i]|)``, s the slopes between neighbours: near 0 for a smooth
    function, however steep; up to 1 for steps and for values that jump up and down.
    """
    steps = np.diff(np.asarray(positions, dtype=np.float64))
    slopes = np.diff(np.asarray(values, dtype=np.float64)) / steps
    total = float(np.abs(slopes).sum())
    return float(np.abs(np.diff(slopes)).sum() / (2 * total)) if total else None


def smooth_loss(landscape: Landscape) -> Check:
    """Check that the loss along the gradient and along a random direction is smooth.

    Lines show roughness on the scale of the ball; that a gradient agrees with the one a tenth of
    the radius away excludes ripples that are too fine for their points.
    """
    positions = landscape.line_positions
    rough = {
        "gradient": [roughness(positions, line) for line in landscape.along_gradient],
        "random": [roughness(positions, line) for line in landscape.along_random],
    }
    flat = {name: sum(value is None for value in values) for name, values in rough.items()}
    medians = {
        name: float(np.median([value for value in values if value is not None] or [0.0]))
        for name, values in rough.items()
    }
    highest, images = max(medians.values()), len(landscape.along_gradient)
    agreement = float(np.median(landscape.gradient_agreement))
    verdict: Verdict = "pass"
    if highest > ROUGH_FAIL or agreement < AGREE_FAIL or 2 * flat["gradient"] > images:
        verdict = "fail"
    elif highest > ROUGH_WARN or agreement < AGREE_WARN or flat["gradient"]:
        verdict = "warn"
    return Check(
        key="smooth-loss",
        title="The loss is smooth along gradient and random directions",
        verdict=verdict,
        finding=(
            f"median roughness {medians['gradient']:.2f} along the gradient and "
            f"{medians['random']:.2f} along a random direction (0 smooth, 1 jumps), flat for "
            f"{flat['gradient']} and {flat['random']} of {images} images; cosine {agreement:.2f} "
            f"between gradients {NEARBY:g} radii apart"
        ),
        evidence={
            "roughness_gradient": medians["gradient"],
            "roughness_random": medians["random"],
            "flat_gradient": flat["gradient"],
            "flat_random": flat["random"],
            "gradient_agreement": agreement,
            "images": images,
        },
        source=ATHALYE,
    )
