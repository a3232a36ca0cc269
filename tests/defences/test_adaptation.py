"""Whether an attack knows of a defence, and PGD that averages over what one draws."""

import pytest
import torch
from torch import nn

from dfshield.attacks import APGDCE, FGSM, PGD, AutoAttack, Noise, Square, Transfer
from dfshield.defences import DAD, TTE, Defence, adaptation


class Bare(Defence):
    """A defence that is nothing but what it says of itself."""

    name = "bare"

    def around(self, model):
        return model


def saying(randomised=False, differentiable=True, bpda=None):
    said = {"randomised": randomised, "differentiable": differentiable, "bpda": bpda}
    return type("Saying", (Bare,), said)()


UNAWARE = Transfer(eps=0.1, source=nn.Identity())
STEP = {"differentiable": False}
SURROGATE = {"differentiable": False, "bpda": "identity"}


@pytest.mark.parametrize(
    ("says", "attack", "adaptive", "how"),
    [
        ({}, PGD(eps=0.1), True, "gradient through the defence"),
        ({}, Square(eps=0.1), True, "queries to the defended model"),
        ({}, UNAWARE, False, "transfer"),
        ({"randomised": True}, PGD(eps=0.1), False, "single draws"),
        ({"randomised": True}, PGD(eps=0.1, eot=7), True, "EOT over 7 draws, gradient through"),
        ({"randomised": True}, APGDCE(eps=0.1, eot=3), True, "EOT over 3 draws"),
        ({"randomised": True}, AutoAttack(eps=0.1), False, "single draws"),
        ({"randomised": True}, AutoAttack(eps=0.1, version="rand"), True, "EOT over 20 draws"),
        ({"randomised": True}, Square(eps=0.1), False, "single draws"),
        ({"randomised": True}, UNAWARE, False, "transfer"),
        (STEP, FGSM(eps=0.1), False, "without BPDA"),
        (STEP, AutoAttack(eps=0.1), False, "without BPDA"),
        (STEP, Noise(eps=0.1), True, "queries"),
        (SURROGATE, PGD(eps=0.1), True, "BPDA (identity)"),
        (SURROGATE, UNAWARE, False, "transfer"),
        ({**SURROGATE, "randomised": True}, PGD(eps=0.1), False, "single draws"),
        ({**STEP, "randomised": True}, PGD(eps=0.1, eot=2), False, "without BPDA"),
    ],
)
def test_how_an_attack_meets_a_defence(says, attack, adaptive, how):
    found = adaptation(saying(**says), attack)
    assert found.adaptive is adaptive
    assert how in found.how


def test_what_our_defences_say():
    assert adaptation(TTE(), PGD(eps=0.1)).how == "gradient through the defence"
    assert (DAD.differentiable, DAD.bpda) == (False, "identity")


class Shaken(nn.Module):
    """A linear classifier of two classes whose weights are shaken at every forward pass."""

    def __init__(self):
        super().__init__()
        self.weight = torch.tensor([[1.0, -0.5, 0.5, 2.0]])
        self.drawn = torch.Generator().manual_seed(0)

    def forward(self, x):
        noise = 2 * torch.randn(1, 4, generator=self.drawn)
        z = x.flatten(1) @ (self.weight + noise).T
        return torch.cat([z, torch.zeros_like(z)], 1)


def test_pgd_averages_the_gradient_over_draws():
    """One step of the mean of many gradients is the step of the mean weights."""
    x, y = torch.full((2, 1, 2, 2), 0.5), torch.zeros(2, dtype=torch.long)
    options = {"eps": 0.1, "num_steps": 1, "step_size": 0.1, "random_start": False, "loss": "cw"}
    wanted = x - 0.1 * torch.tensor([1.0, -1.0, 1.0, 1.0]).view(1, 1, 2, 2)
    attack = PGD(eot=400, **options)
    attack.spare_broken = False
    torch.testing.assert_close(attack(Shaken(), x, y), wanted)
    single = PGD(**options)
    single.spare_broken = False
    model = Shaken()
    assert len({tuple(single(model, x, y)[0].flatten().tolist()) for _ in range(8)}) > 1


def test_draws_of_a_model_that_draws_nothing_change_nothing(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    x = torch.rand(5, 1, 4, 4)
    y = model(x).argmax(1)
    one = PGD(eps=0.1, num_steps=3)
    assert torch.equal(PGD(eps=0.1, num_steps=3, eot=4)(model, x, y), one(model, x, y))
    # Results of before, which knew of no draws, keep their names.
    assert "eot" not in one.describe()
    assert PGD(eps=0.1, eot=4).describe()["eot"] == 4
    assert PGD(eps=0.1, eot=4).slug != PGD(eps=0.1).slug
