"""APGD whose broken images leave the batch, against pyautoattack's own."""

import pytest
import torch
from counting import Counting
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from torch import nn

from dfshield.attacks.leaving_batch import LeavingAPGD, LeavingTargetedAPGD
from dfshield.attacks.pyautoattack_calls import isolated


def attacked(kind, model, x, y, **settings):
    counting = Counting(model)
    attack = kind(counting, seed=3, n_iter=20, **settings)
    with isolated():
        return attack.perturb(x, y), sum(counting.asked)


def verdicts(model, x_adv, y):
    with torch.no_grad():
        return model(x_adv).argmax(1) == y


@pytest.mark.parametrize(
    ("theirs", "ours", "loss"),
    [
        (APGDAttack, LeavingAPGD, {"loss": "ce"}),
        (APGDAttack, LeavingAPGD, {"loss": "dlr", "n_restarts": 2}),
        (APGDAttack_targeted, LeavingTargetedAPGD, {"n_target_classes": 3}),
    ],
)
@pytest.mark.parametrize(("norm", "eps"), [("Linf", 0.1), ("L2", 0.6)])
def test_verdicts_are_theirs_and_fewer_images_go_through(
    trained_net, digits, theirs, ours, loss, norm, eps
):
    x, y = digits[0][:60], digits[1][:60]
    expected, passed = attacked(theirs, trained_net, x, y, norm=norm, eps=eps, **loss)
    found, fewer = attacked(ours, trained_net, x, y, norm=norm, eps=eps, **loss)
    stands = verdicts(trained_net, found, y)
    assert torch.equal(stands, verdicts(trained_net, expected, y))
    assert 0.1 < stands.float().mean() < 0.9
    assert fewer < 0.9 * passed
    assert torch.equal(found[stands], expected[stands])
    distance = (found - x).flatten(1).norm(p=float("inf") if norm == "Linf" else 2, dim=1)
    assert distance.max() <= eps + 1e-6


def test_when_no_image_stands_nothing_more_goes_through(trained_net, digits):
    x, y = digits[0][:30], digits[1][:30]
    found, passed = attacked(LeavingAPGD, trained_net, x, y, norm="Linf", eps=0.5)
    assert not verdicts(trained_net, found, y).any()
    assert passed < 5 * len(x)


def test_with_several_draws_a_gradient_nothing_leaves(trained_net, digits):
    x, y = digits[0][:10], digits[1][:10]
    settings = {"norm": "Linf", "eps": 0.1, "eot_iter": 2}
    expected, passed = attacked(APGDAttack, trained_net, x, y, **settings)
    found, as_many = attacked(LeavingAPGD, trained_net, x, y, **settings)
    assert as_many == passed
    assert torch.equal(found, expected)


def test_an_image_broken_by_no_more_than_rounding_stays(digits):
    """One that another way of computing might call right."""

    class Even(nn.Module):
        """Logits of which the wrong one leads by a hair, whatever the image."""

        def forward(self, x):
            zero = (x * 0).flatten(1).sum(1, keepdim=True)
            return zero + torch.tensor([1.0, 1.0 + 1e-6, 0.0, 0.0])

    x, y = digits[0][:4], torch.zeros(4, dtype=torch.long)
    passed = []
    for kind in (APGDAttack, LeavingAPGD):
        model = Counting(Even())
        attack = kind(model, seed=3, n_iter=5, norm="Linf", eps=0.1)
        attack.init_hyperparam(x)
        with isolated():
            attack.attack_single_run(x, y)
        passed.append(sum(model.asked))
    assert passed[0] == passed[1]
