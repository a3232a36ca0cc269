"""AutoAttack whose broken images leave: the same verdicts, fewer passes."""

import pytest
import torch

from dfshield.attacks import APGDCE, APGDT, AutoAttack

EPS = {"linf": 0.06, "l2": 0.5}


class Counting(torch.nn.Module):
    """A model that counts the images it is asked about."""

    def __init__(self, model):
        super().__init__()
        self.model, self.images = model, 0

    def forward(self, x):
        self.images += len(x)
        return self.model(x)


def attacked(attack, model, digits, *, leave):
    attack.leave_broken = leave
    counting = Counting(model)
    x_adv = attack(counting, *digits, seed=3)
    with torch.no_grad():
        standing = model(x_adv).argmax(1) == digits[1]
    return x_adv, standing, counting.images


def attacks(norm):
    return (
        APGDCE(eps=EPS[norm], norm=norm, num_steps=20),
        APGDCE(eps=EPS[norm], norm=norm, num_steps=10, restarts=3),
        APGDT(eps=EPS[norm], norm=norm, num_steps=10, targets=3),
        AutoAttack(
            eps=EPS[norm],
            norm=norm,
            version="custom",
            attacks="apgd-ce,apgd-t,fab-t,square",
            num_steps=10,
            targets=3,
            queries=50,
        ),
    )


@pytest.mark.parametrize("norm", EPS)
@pytest.mark.parametrize("place", range(4))
def test_the_same_images_withstand_and_look_the_same(trained_net, digits, norm, place):
    images = digits[0][:40], digits[1][:40]
    attack = attacks(norm)[place]
    plain, standing, asked = attacked(attack, trained_net, images, leave=False)
    fast, still, fewer = attacked(attack, trained_net, images, leave=True)
    assert 0 < standing.float().mean() < 0.95
    assert torch.equal(still, standing)
    assert torch.equal(fast[standing], plain[standing])
    assert fewer < asked


def test_when_all_are_broken_nothing_more_is_asked(trained_net, digits):
    _, standing, asked = attacked(APGDCE(eps=0.9), trained_net, digits, leave=False)
    _, still, fewer = attacked(APGDCE(eps=0.9), trained_net, digits, leave=True)
    assert not standing.any()
    assert not still.any()
    assert fewer < 0.2 * asked


def test_what_is_wrong_only_by_rounding_stays(digits):
    """A model whose second-best logit overtakes the best by less than rounding may tell."""

    class Knife(torch.nn.Module):
        def forward(self, x):
            moved = (x - 0.5).flatten(1).sum(1, keepdim=True)
            return torch.cat([1 + 1e-6 * moved, torch.ones_like(moved), 0 * moved], 1)

    x = torch.full((3, 1, 8, 8), 0.51)
    y = torch.zeros(3, dtype=torch.long)
    found = [attacked(APGDCE(eps=0.1), Knife(), (x, y), leave=leave) for leave in (False, True)]
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][2] == found[1][2]
    assert not found[0][1].any()


def test_attacks_that_average_gradients_are_left_as_they_are(trained_net, digits):
    images = digits[0][:10], digits[1][:10]
    found = [
        attacked(APGDCE(eps=0.1, num_steps=5, eot=2), trained_net, images, leave=leave)
        for leave in (False, True)
    ]
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][2] == found[1][2]
