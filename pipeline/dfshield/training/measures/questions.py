"""What measures ask of a student: its classes, under attack, and between the images."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dfshield.attacks import frozen, random_start
from dfshield.training.inner_maximization import InnerMaximization
from dfshield.training.measures.base import Chunk


def classes_of(model: nn.Module, images: Float[Tensor, "n c h w"]) -> Int[Tensor, " n"]:
    """Return the class that a model gives each image in [0, 1] in eval mode; its own is kept."""
    with frozen(model), torch.no_grad():
        classes: Tensor = model(images).argmax(dim=1)
    return classes


def stands_attack(chunk: Chunk, num_steps: int) -> Bool[Tensor, " n"]:
    """Return which images keep the teacher's class under PGD on the cross-entropy with it.

    In the ball of the threat model, from a uniform start in it, with the default steps of
    `InnerMaximization`.
    """
    attack = InnerMaximization(
        eps=chunk.eps, norm=chunk.norm, num_steps=num_steps, loss="ce", start="uniform"
    )
    adversarial = attack(chunk.student, chunk.images, generator=chunk.rng, labels=chunk.expected)
    return classes_of(chunk.student, adversarial) == chunk.expected


def agrees_between(chunk: Chunk, noise: float) -> Bool[Tensor, " n"]:
    """Return on which noisy mixtures the student answers as the teacher does without the noise.

    ``w a + (1 - w) b``, w uniform in [0, 1], b drawn from the chunk without repetition; the noise
    is uniform in the ball of ``noise`` times the threat's eps.
    """
    images, rng = chunk.images, chunk.rng
    partners = torch.from_numpy(rng.permutation(len(images))).to(images.device)
    weights = torch.from_numpy(rng.uniform(size=(len(images), 1, 1, 1))).to(images)
    mixed = weights * images + (1 - weights) * images[partners]
    noisy = random_start(mixed, eps=noise * chunk.eps, norm=chunk.norm, generator=rng)
    return classes_of(chunk.student, noisy) == classes_of(chunk.teacher, mixed)
