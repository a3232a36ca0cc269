"""Every attack with options that make it quick, for tests that put all through the same."""

from dfshield.attacks import ATTACKS, make_attack

QUICK = {
    "fgsm": {},
    "pgd": {"steps": 3, "restarts": 2},
    "pgd-objective": {"steps": 3, "terms": "c"},
    "pgd-unbounded": {"steps": 20},
    "apgd-ce": {"steps": 5},
    "apgd-dlr": {"steps": 5},
    "apgd-t": {"steps": 5, "targets": 2},
    "fab-t": {"steps": 5, "targets": 2},
    "square": {"queries": 10},
    "autoattack": {
        "version": "custom",
        "attacks": "apgd-ce,apgd-dlr,fab,square,apgd-t,fab-t",
        "steps": 2,
        "queries": 5,
    },
    "spsa": {"steps": 3, "samples": 8},
    "genattack": {"steps": 5, "population": 4},
    "boundary": {"steps": 10},
    "latent": {"steps": 5},
    "noise": {"samples": 2},
    "transfer": {"inner": "pgd", "steps": 3},
}
CASES = [(name, norm) for name, attack in ATTACKS.items() for norm in attack.norms]


def quick(name, norm, *, other, eps):
    """The attack with quick options; ``other`` is the model for one that needs another."""
    options = {"eps": 1 if name == "pgd-unbounded" else eps, "norm": norm, **QUICK[name]}
    needed = ATTACKS[name].needs_model
    return make_attack(name, **options, **({needed: other} if needed else {}))
