"""All attacks. A new attack is one new file and one line here."""

from dfshield.attacks.a3 import A3
from dfshield.attacks.autoattack import AutoAttack
from dfshield.attacks.autoattack_parts import APGDCE, APGDDLR, APGDT, FABT, Square
from dfshield.attacks.automated import Automated
from dfshield.attacks.base import Attack
from dfshield.attacks.blackbox import Boundary, GenAttack
from dfshield.attacks.family import ATTACKS, make_attack
from dfshield.attacks.gradient import FGSM, PGD
from dfshield.attacks.latent import Latent
from dfshield.attacks.noise import Noise
from dfshield.attacks.pgd_variants import ObjectivePGD, UnboundedPGD
from dfshield.attacks.spsa import SPSA
from dfshield.attacks.transfer import Transfer

__all__ = ["ATTACKS", "make_attack"]

_ALL: tuple[type[Attack], ...] = (
    FGSM,
    PGD,
    ObjectivePGD,
    UnboundedPGD,
    APGDCE,
    APGDDLR,
    APGDT,
    FABT,
    Square,
    AutoAttack,
    A3,
    Automated,
    SPSA,
    GenAttack,
    Boundary,
    Latent,
    Noise,
    Transfer,
)

for _attack in _ALL:
    ATTACKS.register(_attack)
