"""Attacks: one contract (:class:`Attack`), many attacks, all on images in [0, 1]."""

from dfshield.attacks.autoattack import AutoAttack
from dfshield.attacks.ball import (
    NORMS,
    Norm,
    clip_to_ball,
    normalise_gradient,
    perturbation_norm,
    project,
    random_start,
)
from dfshield.attacks.base import RANGE_TOLERANCE, Attack, check_images, check_labels, frozen
from dfshield.attacks.gradient import FGSM, PGD
from dfshield.attacks.registry import ATTACKS, make_attack

__all__ = [
    "ATTACKS",
    "FGSM",
    "NORMS",
    "PGD",
    "RANGE_TOLERANCE",
    "Attack",
    "AutoAttack",
    "Norm",
    "check_images",
    "check_labels",
    "clip_to_ball",
    "frozen",
    "make_attack",
    "normalise_gradient",
    "perturbation_norm",
    "project",
    "random_start",
]
