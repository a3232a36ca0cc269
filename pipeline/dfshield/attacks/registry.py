"""All attacks by name. A new attack is one new file and one line here."""

import inspect
from collections.abc import Callable

from dfshield.attacks.autoattack import AutoAttack
from dfshield.attacks.autoattack_parts import APGDCE, APGDDLR, APGDT, FABT, Square
from dfshield.attacks.base import Attack
from dfshield.attacks.blackbox import Boundary, GenAttack
from dfshield.attacks.gradient import FGSM, PGD
from dfshield.attacks.latent import Latent
from dfshield.attacks.noise import Noise
from dfshield.attacks.pgd_variants import ObjectivePGD, UnboundedPGD
from dfshield.attacks.settings import nearest
from dfshield.attacks.spsa import SPSA
from dfshield.attacks.transfer import Transfer
from dfshield.errors import InputError

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
    SPSA,
    GenAttack,
    Boundary,
    Latent,
    Noise,
    Transfer,
)
ATTACKS: dict[str, type[Attack]] = {attack.name: attack for attack in _ALL}
_ELSEWHERE = {
    "alpha": "step",
    "abs_stepsize": "step",
    "step_size": "step",
    "eps_iter": "step",
    "n_iter": "steps",
    "nb_iter": "steps",
    "eot_iter": "eot",
    "lr": "learning_rate",
}
"""Hyper-parameters by the names that foolbox, torchattacks and AutoAttack give them."""


def make_attack(name: str, **kwargs: object) -> Attack:
    """Return the attack of this name with these hyper-parameters.

    An attack whose class says ``needs_model`` wants another model under that keyword.

    Raises:
        InputError: for an unknown name or hyper-parameter (with the nearest known one), a missing
            ``eps`` or model, or a value that makes no sense.
    """
    if name not in ATTACKS:
        raise InputError(f"attack: {name!r} is unknown: {nearest(name, list(ATTACKS))}")
    build: Callable[..., Attack] = ATTACKS[name]
    parameters = inspect.signature(build).parameters
    # What an attack does not name it hands on to another, which checks it.
    if not any(item.kind is item.VAR_KEYWORD for item in parameters.values()):
        for key in kwargs:
            if key not in parameters:
                raise InputError(f"{name}.{key} is unknown: {_nearest(key, list(parameters))}")
    if "eps" not in kwargs and parameters["eps"].default is inspect.Parameter.empty:
        raise InputError(f"{name}.eps is missing: the radius of the ball, such as 0.03 or '8/255'")
    needed = ATTACKS[name].needs_model
    if needed is not None and needed not in kwargs:
        raise InputError(f"{name}.{needed} is missing: this attack works with another model")
    return build(**kwargs)


def _nearest(key: str, known: list[str]) -> str:
    called = _ELSEWHERE.get(key)
    return f"here it is {called!r}" if called in known else nearest(key, known)
