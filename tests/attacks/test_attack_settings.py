"""What attacks are called, what they say of their settings, and settings that are refused."""

import json
import subprocess
import sys

import pytest
from attack_table import CASES, quick
from torch import nn

from dfshield.attacks import make_attack
from dfshield.classifiers import build
from dfshield.errors import InputError

EPS = {"linf": 0.3, "l2": 1.0}
BOUNDED = [case for case in CASES if case[0] != "pgd-unbounded"]


def make(case, trained_net):
    name, norm = case
    return quick(name, norm, other=trained_net, eps=EPS[norm])


@pytest.fixture(params=BOUNDED, ids="-".join)
def bounded(request, trained_net):
    return make(request.param, trained_net)


def test_description_label_and_slug(bounded, trained_net):
    attack, described = bounded, bounded.describe()
    json.dumps(described)
    name = described.pop("name")
    if attack.needs_model:
        assert described.pop(attack.needs_model) == "torch.nn.modules.container.Sequential"
        described[attack.needs_model] = trained_net
    again = make_attack(name, **described)
    assert again.describe() == attack.describe()
    assert again.slug == attack.slug
    assert set(attack.slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-")
    assert make_attack(name, **{**described, "eps": 0.2999999}).slug != attack.slug


def test_another_model_is_described_by_its_fingerprint():
    teacher = build("dfshield:resnet8", input_shape=(1, 8, 8), num_classes=10)
    assert make_attack("pgd-objective", eps=0.1, teacher=teacher).describe()["teacher"] == (
        teacher.fingerprint()
    )
    assert make_attack("transfer", eps=0.1, source=teacher).describe()["source"] == (
        teacher.fingerprint()
    )


def test_labels():
    assert make_attack("fgsm", eps=0.1).label == "FGSM"
    assert make_attack("pgd", eps=0.1).label == "PGD-20"
    assert make_attack("pgd", eps=0.1, restarts=5).label == "PGD-20 (5 restarts)"
    assert make_attack("pgd", eps=0.1, restarts=5, loss="dlr").label == "PGD-20 (DLR, 5 restarts)"
    assert make_attack("autoattack", eps=0.1).label == "AutoAttack"
    assert make_attack("autoattack", eps=0.1, version="rand").label == "AutoAttack (rand)"
    custom = make_attack("autoattack", eps=0.1, version="custom", attacks=["apgd-t", "square"])
    assert custom.label == "AutoAttack (apgd-t,square)"
    assert make_attack("pgd-unbounded").label == "PGD, unbounded"
    assert make_attack("apgd-ce", eps=0.1).label == "APGD-CE"
    assert make_attack("fab-t", eps=0.1).label == "FAB-T"
    assert make_attack("a3", eps=0.1).label == "A3"
    source = nn.Identity()
    assert make_attack("transfer", source=source, eps=0.1).label == "Transfer (PGD-20)"
    objective = make_attack("pgd-objective", teacher=source, eps=0.1, terms="c")
    assert objective.label == "PGD-10 on term (c)"
    assert objective.slug.startswith("pgd-objective-10-linf-0.1-")
    assert make_attack("pgd", eps=0.1).slug.startswith("pgd-20-linf-0.1-")
    settings = [
        {},
        {"num_steps": 19},
        {"step_size": 0.01},
        {"restarts": 2},
        {"random_start": False},
    ]
    assert len({make_attack("pgd", eps=0.1, **options).slug for options in settings}) == 5


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("pdg", {"eps": 0.1}, "'pgd'"),
        ("AutoAttack", {"eps": 0.1}, "'autoattack'"),
        (
            "pgd",
            {"eps": 0.1, "step": 0.1},
            "step: is no option of pgd: here it is 'step_size'",
        ),
        ("pgd", {"eps": 0.1, "alpha": 0.1}, r"alpha: is no option of pgd: here it is 'step_size'"),
        ("fgsm", {"eps": 0.1, "alpha": 0.1}, r"alpha: is no option of fgsm: known are eps, norm"),
        ("fgsm", {"eps": 0.1, "restarts": 2}, r"restarts: is no option of fgsm"),
        ("pgd", {"num_steps": 20}, r"pgd\.eps is missing"),
        ("pgd", {"eps": "eight"}, "eps: 'eight'"),
        ("pgd", {"eps": 8}, 'eps: 8 is above 1.*"8/255"'),
        ("pgd", {"eps": -0.1}, "eps: -0.1 must be"),
        ("pgd", {"eps": 0.1, "step_size": 0.0}, "step_size: 0.0 must be above 0"),
        ("pgd", {"eps": 0.1, "num_steps": 0}, "num_steps: 0 must be"),
        ("pgd", {"eps": 0.1, "restarts": 0}, "restarts: 0 must be"),
        ("pgd", {"eps": 0.1, "restarts": 2, "random_start": False}, "restarts: more than 1"),
        ("pgd", {"eps": 0.1, "loss": "clw"}, "loss: 'clw' is unknown: did you mean 'cw'"),
        ("pgd", {"eps": 0.1, "loss": "kl", "random_start": False}, "loss: 'kl' has no gradient"),
        ("pgd-unbounded", {"eps": "8/255"}, "eps: '8/255' is a bound"),
        ("pgd-unbounded", {"norm": "l2"}, "norm: pgd-unbounded is not defined for 'l2': use linf"),
        ("pgd-objective", {"eps": 0.1}, "pgd-objective.teacher is missing"),
        ("transfer", {"eps": 0.1}, "transfer.source is missing"),
        (
            "transfer",
            {"eps": 0.1, "source": nn.Identity(), "inner": "transfer"},
            "inner: 'transfer' needs",
        ),
        (
            "transfer",
            {"eps": 0.1, "source": nn.Identity(), "num_stesp": 2},
            r"num_stesp: is no option of pgd.*'num_steps'",
        ),
        ("autoattack", {"eps": 0.1, "version": "strong"}, "version: 'strong' is unknown"),
        ("autoattack", {"eps": 0.1, "version": "custom"}, "attacks: name those"),
        ("autoattack", {"eps": 0.1, "version": "custom", "attacks": "apgd"}, "attacks: 'apgd' is"),
        ("autoattack", {"eps": 0.1, "attacks": ["square"]}, "attacks: only with version: custom"),
        ("autoattack", {"eps": 0.1, "num_steps": 10}, "num_steps: only with version: custom"),
        ("apgd-t", {"eps": 0.1, "restarts": 2}, r"restarts: is no option of apgd-t"),
        ("square", {"eps": 0.1, "queries": 0}, "queries: 0 must be"),
        ("spsa", {"eps": 0.1, "delta": 0.0}, "delta: 0.0 must be a number above 0 and at most 1"),
        ("genattack", {"eps": 0.1, "norm": "l2"}, "norm: genattack is not defined for 'l2'"),
        ("genattack", {"eps": 0.1, "population": 1}, "population: 1 must be"),
        ("genattack", {"eps": 0.1, "target": "any"}, "target: 'any' is unknown"),
        ("latent", {"eps": 0.1, "norm": "l2"}, "norm: latent is not defined for 'l2'"),
        ("a3", {"eps": 0.1, "budget": 0}, "budget: 0 must be"),
        ("a3", {"eps": 0.1, "norm": "l1"}, "norm: 'l1' is unknown"),
        ("boundary", {"eps": 0.1, "source_step": -1.0}, "source_step: -1.0 must be"),
        ("noise", {"eps": 0.1, "samples": 0}, "samples: 0 must be"),
        ("autoattack", {"eps": 0.1, "batch_size": 0}, "batch_size: 0 must be"),
        ("autoattack", {"eps": 0.1, "num_steps": 0}, "num_steps: 0 must be"),
    ],
)
def test_bad_settings_are_refused_by_name(name, options, message):
    with pytest.raises(InputError, match=message) as caught:
        make_attack(name, **options)
    assert "\n" not in str(caught.value)


def test_fraction_is_understood():
    assert make_attack("pgd", eps="8/255", step_size="2/255").eps == pytest.approx(8 / 255)


def test_random_start_is_true_or_false():
    # In a process of its own: here the type checks of the test suite would refuse it first.
    program = (
        "from dfshield.attacks import make_attack; make_attack('pgd', eps=0, random_start='no')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "InputError: random_start: 'no' must be true or false" in done.stderr.replace("pgd.", "")
