"""Every attack through the same tests."""

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
from dfshield.classifiers import Architecture, Classifier
from dfshield.errors import DfshieldWarning, InputError
from dfshield.evaluation import evaluate

EPS = {"linf": 0.3, "l2": 1.0}
BOUNDED = [case for case in CASES if case[0] != "pgd-unbounded"]
NEEDS_GRADIENT = [case for case in CASES if ATTACKS[case[0]].needs_gradient]
ASCENDS = {
    *("fgsm", "pgd", "pgd-unbounded", "apgd-ce", "apgd-dlr", "apgd-t", "fab-t"),
    *("autoattack", "a3"),
}


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
        # What it tells of itself: which attacks it chose.
        warnings.filterwarnings("ignore", message="automated ran what it found")
        attack(trained_net, *images)
