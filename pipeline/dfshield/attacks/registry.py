"""All attacks by name. A new attack is one new file and one line here."""

import inspect
from collections.abc import Callable

from dfshield.attacks.autoattack import AutoAttack
from dfshield.attacks.base import Attack, nearest
from dfshield.attacks.gradient import FGSM, PGD
from dfshield.errors import InputError

ATTACKS: dict[str, type[Attack]] = {
    "fgsm": FGSM,
    "pgd": PGD,
    "autoattack": AutoAttack,
}


def make_attack(name: str, **kwargs: object) -> Attack:
    """Return the attack of this name with these hyper-parameters.

    Raises:
        InputError: for an unknown name or hyper-parameter (with the nearest known one), a missing
            ``eps``, or a value that makes no sense.
    """
    if name not in ATTACKS:
        raise InputError(f"attack: {name!r} is unknown: {nearest(name, list(ATTACKS))}")
    build: Callable[..., Attack] = ATTACKS[name]
    parameters = list(inspect.signature(build).parameters)
    for key in kwargs:
        if key not in parameters:
            raise InputError(f"{name}.{key} is unknown: {nearest(key, parameters)}")
    if "eps" not in kwargs:
        raise InputError(f"{name}.eps is missing: the radius of the ball, such as 0.03 or '8/255'")
    return build(**kwargs)
