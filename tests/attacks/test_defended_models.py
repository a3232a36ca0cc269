"""Every attack on a model behind a test-time defence: the same contract."""

import pytest
import torch
from attack_table import CASES, quick

from dfshield.attacks import PGD, AutoAttack, Transfer, perturbation_norm
from dfshield.defences import TTE
from dfshield.evaluation import evaluate

EPS = {"linf": 0.3, "l2": 1.0}


@pytest.fixture(scope="module")
def defended(trained_net):
    return TTE(padding=1).wrap(trained_net)


@pytest.fixture
def images(digits):
    return digits[0][:12], digits[1][:12]


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_contract(case, trained_net, defended, images):
    name, norm = case
    attack, (x, y) = quick(name, norm, other=trained_net, eps=EPS[norm]), images
    defended.train()
    try:
        first = attack(defended, x, y, seed=3)
        assert all(module.training for module in defended.modules())
    finally:
        defended.eval()
    assert torch.equal(first, attack(defended, x, y, seed=3))
    assert first.min() >= 0
    assert first.max() <= 1
    assert perturbation_norm(first.double() - x.double(), norm).max() <= attack.eps + 1e-6
    assert all(parameter.grad is None for parameter in defended.parameters())


def test_an_attack_through_the_defence_is_stronger_than_one_that_does_not_know_of_it(
    trained_net, defended, digits
):
    assert not evaluate(defended, digits, None).collapsed
    unaware = evaluate(defended, digits, Transfer(eps=0.03, source=trained_net, num_steps=20))
    adaptive = evaluate(defended, digits, PGD(eps=0.03, num_steps=20))
    assert adaptive.num_correct < unaware.num_correct


def test_autoattack_standard_applies(defended, images):
    result = evaluate(defended, images, AutoAttack(eps=0.3))
    assert result.randomised is False
    assert result.standard_suite is True
    assert result.num_correct <= evaluate(defended, images, PGD(eps=0.3, num_steps=5)).num_correct
