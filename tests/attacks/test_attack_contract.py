"""Every attack through the same tests."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from attack_table import CASES, QUICK, quick
from torch import nn

from dfshield.attacks import ATTACKS, Attack, make_attack, perturbation_norm
from dfshield.classifiers import Architecture, Classifier, build
from dfshield.errors import DfshieldWarning, InputError
from dfshield.evaluation import evaluate

EPS = {"linf": 0.3, "l2": 1.0}
BOUNDED = [case for case in CASES if case[0] != "pgd-unbounded"]
NEEDS_GRADIENT = [case for case in CASES if ATTACKS[case[0]].needs_gradient]
ASCENDS = {"fgsm", "pgd", "pgd-unbounded", "apgd-ce", "apgd-dlr", "apgd-t", "fab-t", "autoattack"}


def make(case, trained_net):
    name, norm = case
    return quick(name, norm, other=trained_net, eps=EPS[norm])


@pytest.fixture(params=CASES, ids="-".join)
def attack(request, trained_net):
    return make(request.param, trained_net)


@pytest.fixture(params=BOUNDED, ids="-".join)
def bounded(request, trained_net):
    return make(request.param, trained_net)


@pytest.fixture
def images(digits):
    return digits[0][:12], digits[1][:12]


def test_every_attack_has_settings_here():
    assert set(QUICK) == set(ATTACKS)


def test_stays_in_ball_and_range(attack, trained_net, images):
    x, y = images
    before = x.clone()
    x_adv = attack(trained_net, x, y, seed=1)
    assert x_adv.shape == x.shape
    assert x_adv.dtype == torch.float32
    assert not x_adv.requires_grad
    assert torch.equal(x, before)
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    size = perturbation_norm(x_adv.double() - x.double(), attack.norm).max()
    assert size <= attack.eps + 1e-6
    if attack.name in ASCENDS:
        with torch.no_grad():
            clean = F.cross_entropy(trained_net(x), y)
            adversarial = F.cross_entropy(trained_net(x_adv), y)
        assert size > 0
        assert adversarial > clean


def test_model_and_global_generators_are_left_as_they_were(attack, trained_net, images):
    model = trained_net
    model.zero_grad()  # what other tests of the session have left
    model.train()
    model[1].eval()
    model[0].weight.requires_grad_(False)
    modes = [module.training for module in model.modules()]
    flags = [parameter.requires_grad for parameter in model.parameters()]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    torch_state = torch.random.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    try:
        attack(model, *images, seed=1)
        assert [module.training for module in model.modules()] == modes
        assert [parameter.requires_grad for parameter in model.parameters()] == flags
        assert all(parameter.grad is None for parameter in model.parameters())
        assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    finally:
        model.eval()
        model[0].weight.requires_grad_(True)
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


WITHOUT_SHAPE_CHECKS = """
import random, sys
import torch
sys.path.insert(0, sys.argv[1])
from attack_table import CASES, quick

model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
x, y = torch.rand(4, 1, 8, 8), torch.arange(4)
for name, norm in CASES:
    before = random.getstate()
    quick(name, norm, other=model, eps=0.5)(model, x, y)
    assert random.getstate() == before, name
"""


def test_pythons_generator_is_left_as_it_was():
    """In a process of its own: the run-time shape checks of the tests draw from it."""
    folder = str(Path(__file__).parent)
    program = [sys.executable, "-c", WITHOUT_SHAPE_CHECKS, folder]
    subprocess.run(program, check=True, timeout=120)


def test_model_is_restored_after_an_error(attack, images):
    class Fails(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(64, 10)
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            if self.calls > 1:
                raise RuntimeError("broken")
            return self.layer(x.flatten(1))

    model = Fails().train()
    with pytest.raises(RuntimeError, match="broken"):
        attack(model, *images)
    assert model.training
    assert model.layer.training
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_result_depends_on_the_seed_alone(attack, trained_net, images):
    torch.manual_seed(1)
    first = attack(trained_net, *images, seed=3)
    torch.manual_seed(2)
    assert torch.equal(first, attack(trained_net, *images, seed=3))
    if attack.name in ("pgd", "noise", "spsa"):
        assert not torch.equal(first, attack(trained_net, *images, seed=4))


def test_works_where_gradients_are_switched_off(attack, trained_net, images):
    expected = attack(trained_net, *images)
    with torch.no_grad():
        assert torch.equal(attack(trained_net, *images), expected)


def test_eps_zero_returns_the_images(bounded, trained_net, images):
    null = quick(bounded.name, bounded.norm, other=trained_net, eps=0.0)
    assert torch.equal(null(trained_net, *images), images[0])


def test_rounding_outside_the_range_is_clipped_but_no_more(attack, trained_net, images):
    x, y = images
    assert attack(trained_net, x - 3e-8, y).min() >= 0
    for wrong in (x * 255, x - 0.1, x.masked_fill(x == 0, float("nan"))):
        with pytest.raises(InputError, match=r"images must lie in \[0, 1\]"):
            attack(trained_net, wrong, y)


def test_labels_that_the_model_cannot_have_are_refused(attack, trained_net, images):
    x, y = images
    for wrong in (y + 5, y - 1):
        with pytest.raises(InputError, match=r"labels must lie in 0\.\.9"):
            attack(trained_net, x, wrong)


def test_labels_of_any_integer_type_are_taken(attack, trained_net, images):
    x, y = images
    expected = attack(trained_net, x, y)
    for kind in (torch.uint8, torch.int32):
        assert torch.equal(attack(trained_net, x, y.to(kind)), expected)


@pytest.mark.parametrize("wrong", [torch.zeros(12), torch.zeros(12, 1, dtype=torch.int64)])
def test_labels_of_another_type_or_shape_are_refused(trained_net, digits, wrong):
    with pytest.raises(InputError, match=r"whole numbers of shape \(images,\)"):
        evaluate(trained_net, (digits[0][:12], wrong), make_attack("fgsm", eps=0.1))


class Table(nn.Module):
    """A classifier of brightness without a gradient."""

    def forward(self, x):
        bright = (x.detach().flatten(1).mean(1) * 10).floor().clamp(0, 9).long()
        return F.one_hot(bright, 10).float()


@pytest.mark.parametrize("case", NEEDS_GRADIENT, ids="-".join)
def test_model_without_gradient_is_refused(case, trained_net, images):
    with pytest.raises(InputError, match="carry no gradient"):
        make(case, trained_net)(Table(), *images)


@pytest.mark.parametrize("case", sorted(set(CASES) - set(NEEDS_GRADIENT)), ids="-".join)
def test_other_attacks_do_without_a_gradient(case, trained_net, images):
    x = images[0]
    make(case, trained_net)(Table(), x, Table()(x).argmax(1))


def test_images_of_another_size_are_refused(attack, trained_net, images):
    classifier = Classifier(
        trained_net,
        architecture=Architecture("test:net", {}, (1, 8, 8), 10),
        mean=[0.0],
        std=[1.0],
    )
    with pytest.raises(InputError, match=r"shape \(1, 8, 8\).*\(1, 7, 8\)"):
        attack(classifier, images[0][:, :, :7], images[1])


def test_an_attack_that_goes_too_far_is_projected(trained_net, images):
    class Far(Attack):
        name = "far"

        def perturb(self, model, x, y, *, seed):
            return x + 7

    for norm, eps in EPS.items():
        x_adv = Far(eps=eps, norm=norm)(trained_net, *images)
        size = perturbation_norm(x_adv - images[0], norm)
        assert size.max() <= eps + 1e-6
        assert size.max() > 0.9 * eps
        assert x_adv.max() <= 1


def test_attacks_run_without_warning_on_ten_classes(attack, trained_net, images):
    with warnings.catch_warnings():
        warnings.simplefilter("error", DfshieldWarning)
        # True of the DLR loss of some image here.
        warnings.filterwarnings("ignore", message="AutoAttack: there are . points with zero gradi")
        attack(trained_net, *images)


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
            {"eps": 0.1, "step_size": 0.1},
            "step_size: is no option .*'step'",
        ),
        ("pgd", {"eps": 0.1, "alpha": 0.1}, r"alpha: is no option of pgd: here it is 'step'"),
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
            {"eps": 0.1, "source": nn.Identity(), "stesp": 2},
            r"stesp: is no option of pgd.*'step'",
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
