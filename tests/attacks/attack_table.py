"""Every attack with options that make it quick, for tests that put all through the same."""

from dfshield.attacks import ATTACKS, make_attack

QUICK = {
    "fgsm": {},
    "pgd": {"num_steps": 3, "restarts": 2},
    "pgd-objective": {"num_steps": 3, "terms": "c"},
    "pgd-unbounded": {"num_steps": 20},
    "apgd-ce": {"num_steps": 5},
    "apgd-dlr": {"num_steps": 5},
    "apgd-t": {"num_steps": 5, "targets": 2},
    "fab-t": {"num_steps": 5, "targets": 2},
    "square": {"queries": 10},
    "autoattack": {
        "version": "custom",
        "attacks": "apgd-ce,apgd-dlr,fab,square,apgd-t,fab-t",
        "num_steps": 2,
        "queries": 5,
    },
    "a3": {"budget": 20},
    "automated": {
        "choices": ["fgsm", {"name": "pgd", "num_steps": 3, "step_size": 0.05}],
        "trials": 3,
        "images": 3,
        "stages": 2,
    },
    "spsa": {"num_steps": 3, "samples": 8},
    "genattack": {"num_steps": 5, "population": 4},
    "boundary": {"num_steps": 10},
    "latent": {"num_steps": 5},
    "noise": {"samples": 2},
    "transfer": {"inner": "pgd", "num_steps": 3},
}
CASES = [(name, norm) for name, attack in ATTACKS.items() for norm in attack.norms]


def quick(name, norm, *, other, eps):
    """The attack with quick options; ``other`` is the model for one that needs another."""
    options = {"eps": 1 if name == "pgd-unbounded" else eps, "norm": norm, **QUICK[name]}
    needed = ATTACKS[name].needs_model
    return make_attack(name, **options, **({needed: other} if needed else {}))
