"""The family of the attacks; its variants stand in `registry`."""

from dfshield.attacks.base import Attack
from dfshield.errors import InputError
from dfshield.families import Family
from dfshield.variant_options import REQUIRED

ATTACKS: Family[Attack] = Family(
    "attack",
    (),
    supplied=("eps", "norm", "teacher", "source"),
    renamed={"step": "step_size", "steps": "num_steps"},
    synonyms={
        "alpha": "step_size",
        "abs_stepsize": "step_size",
        "eps_iter": "step_size",
        "n_iter": "num_steps",
        "nb_iter": "num_steps",
        "eot_iter": "eot",
        "lr": "learning_rate",
    },
)
"""All attacks by name, with what foolbox, torchattacks and AutoAttack call their options."""


def make_attack(name: str, **options: object) -> Attack:
    """Return the attack of this name with these hyper-parameters.

    An attack whose class says ``needs_model`` wants another model under that keyword.

    Raises:
        InputError: for an unknown name or hyper-parameter (with the nearest known one), a missing
            ``eps`` or model, or a value that makes no sense.
    """
    attack = ATTACKS.find(name)
    ATTACKS.check(name, options)
    if "eps" not in options and needs_eps(name):
        raise InputError(f"{name}.eps is missing: the radius of the ball, such as 0.03 or '8/255'")
    needed = attack.needs_model
    if needed is not None and needed not in options:
        raise InputError(f"{name}.{needed} is missing: this attack works with another model")
    return ATTACKS.make(name, **options)


def needs_eps(name: str) -> bool:
    """Return whether an attack must be given an eps: unbounded PGD, say, has its own."""
    return any(o.name == "eps" and o.default is REQUIRED for o in ATTACKS.options(name))
