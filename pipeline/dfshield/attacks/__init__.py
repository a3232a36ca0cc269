"""Attacks: one contract (:class:`Attack`), many attacks, all on images in [0, 1]."""

from dfshield.attacks.a3 import A3
from dfshield.attacks.autoattack import AutoAttack
from dfshield.attacks.autoattack_parts import APGDCE, APGDDLR, APGDT, FABT, Square
from dfshield.attacks.automated import Automated
from dfshield.attacks.ball import (
    NORMS,
    Norm,
    clip_to_ball,
    normalise_gradient,
    perturbation_norm,
    project,
    random_start,
)
from dfshield.attacks.base import Attack, Outcome, QueryAttack
from dfshield.attacks.blackbox import Boundary, GenAttack
from dfshield.attacks.family import needs_eps
from dfshield.attacks.gradient import FGSM, PGD
from dfshield.attacks.inputs import RANGE_TOLERANCE, check_images, check_labels, whole_labels
from dfshield.attacks.latent import Latent
from dfshield.attacks.models import in_float32
from dfshield.attacks.noise import Noise
from dfshield.attacks.pgd_variants import ObjectivePGD, UnboundedPGD
from dfshield.attacks.pyautoattack_calls import EOT_DRAWS
from dfshield.attacks.registry import ATTACKS, make_attack
from dfshield.attacks.spsa import SPSA
from dfshield.attacks.transfer import Transfer
from dfshield.classifiers import frozen

__all__ = [
    "A3",
    "APGDCE",
    "APGDDLR",
    "APGDT",
    "ATTACKS",
    "EOT_DRAWS",
    "FABT",
    "FGSM",
    "NORMS",
    "PGD",
    "RANGE_TOLERANCE",
    "SPSA",
    "Attack",
    "AutoAttack",
    "Automated",
    "Boundary",
    "GenAttack",
    "Latent",
    "Noise",
    "Norm",
    "ObjectivePGD",
    "Outcome",
    "QueryAttack",
    "Square",
    "Transfer",
    "UnboundedPGD",
    "check_images",
    "check_labels",
    "clip_to_ball",
    "frozen",
    "in_float32",
    "make_attack",
    "needs_eps",
    "normalise_gradient",
    "perturbation_norm",
    "project",
    "random_start",
    "whole_labels",
]
