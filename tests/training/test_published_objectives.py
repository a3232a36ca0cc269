"""Objectives of other methods: values and gradients against formulas and PyTorch's own losses."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dfshield.errors import InputError
from dfshield.training import (
    OBJECTIVES,
    ArdObjective,
    InnerMaximization,
    MartObjective,
    RsladObjective,
    StandardObjective,
    TradesObjective,
)


def logits(seed, n=7, k=5):
    rng = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(n, k, generator=rng, dtype=torch.float64)


CLEAN, ADVERSARIAL, TEACHER = logits(1), logits(2), logits(3)
LABELS = torch.tensor([0, 1, 2, 3, 4, 0, 2])
TRUE = torch.eye(5, dtype=torch.float64)[LABELS]


# ---------------------------------------------------------------- formulas, in float64


def p(z, t=1.0):
    """Return the softmax of logits over a temperature, from its definition."""
    return torch.exp(z / t) / torch.exp(z / t).sum(dim=1, keepdim=True)


def kl(target, prediction, t=1.0):
    """Return one KL divergence an image."""
    return (p(target, t) * (p(target, t) / p(prediction, t)).log()).sum(dim=1)


def ce(z):
    return -(TRUE * p(z).log()).sum(dim=1)


def mart(clean, adversarial, beta):
    rivals = torch.stack(
        [
            torch.cat([row[:y], row[y + 1 :]]).max()
            for row, y in zip(p(adversarial), LABELS, strict=True)
        ]
    )
    weight = 1.0000001 - (TRUE * p(clean)).sum(dim=1)
    return {
        "robust": (ce(adversarial) - (1.0001 - rivals + 1e-12).log()).mean(),
        "smooth": beta * (kl(clean, adversarial) * weight).mean(),
    }


FORMULAS = {
    "std": (StandardObjective(), lambda x, x_adv: {"robust": ce(x_adv).mean()}),
    "trades": (
        TradesObjective(),
        lambda x, x_adv: {"clean": ce(x).mean(), "smooth": 6 * kl(x, x_adv).mean()},
    ),
    "mart": (MartObjective(), lambda x, x_adv: mart(x, x_adv, 6)),
    "mart as in its paper": (MartObjective(beta=5), lambda x, x_adv: mart(x, x_adv, 5)),
    "ard": (
        ArdObjective(),
        lambda x, x_adv: {
            "clean": 0 * ce(x).mean(),
            "robust": 30**2 * kl(TEACHER, x_adv, 30).mean() / 5,
        },
    ),
    "ard with labels": (
        ArdObjective(alpha=0.7, temperature=4, reduction="batchmean"),
        lambda x, x_adv: {
            "clean": 0.3 * ce(x).mean(),
            "robust": 0.7 * 4**2 * kl(TEACHER, x_adv, 4).mean(),
        },
    ),
    "rslad": (
        RsladObjective(),
        lambda x, x_adv: {
            "clean": kl(TEACHER, x).mean() / 5 / 6,
            "robust": 5 * kl(TEACHER, x_adv).mean() / 5 / 6,
        },
    ),
    "rslad with other options": (
        RsladObjective(scale=10, alpha=0.25, reduction="batchmean", temperature=3),
        lambda x, x_adv: {
            "clean": 7.5 * 3**2 * kl(TEACHER, x, 3).mean(),
            "robust": 2.5 * 3**2 * kl(TEACHER, x_adv, 3).mean(),
        },
    ),
}


def evaluated(losses, clean, adversarial):
    """Return the terms, and the gradients of their sum."""
    total = sum(losses.values())
    gradients = torch.autograd.grad(total, [clean, adversarial], allow_unused=True)
    return losses, [torch.zeros_like(CLEAN) if g is None else g.double() for g in gradients]


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-5)])
def test_values_and_gradients_are_those_of_the_formula(name, dtype, tolerance):
    objective, formula = FORMULAS[name]
    ours = [z.to(dtype).requires_grad_() for z in (CLEAN, ADVERSARIAL)]
    losses = objective(clean=ours[0], adversarial=ours[1], teacher=TEACHER.to(dtype), labels=LABELS)
    terms, gradients = evaluated(losses.terms, *ours)
    theirs = [z.clone().requires_grad_() for z in (CLEAN, ADVERSARIAL)]
    expected_terms, expected = evaluated(formula(*theirs), *theirs)
    assert terms.keys() == expected_terms.keys()
    for key, value in expected_terms.items():
        assert terms[key].item() == pytest.approx(value.item(), rel=tolerance, abs=1e-12), key
    assert losses.total.item() == pytest.approx(
        sum(v.item() for v in expected_terms.values()), rel=tolerance
    )
    for got, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance * wanted.abs().max())


@pytest.mark.parametrize("name", FORMULAS)
def test_gradients_are_those_of_finite_differences(name):
    objective, _ = FORMULAS[name]

    def total(clean, adversarial):
        return objective(clean=clean, adversarial=adversarial, teacher=TEACHER, labels=LABELS).total

    points = [z.clone().requires_grad_() for z in (CLEAN, ADVERSARIAL)]
    # Both enter, so that what takes no part in the loss has a gradient of zero.
    assert torch.autograd.gradcheck(lambda x, a: total(x, a) + 0 * (x.sum() + a.sum()), points)


def test_ard_is_the_kldivloss_that_pytorch_calls_mean():
    with pytest.warns(UserWarning, match="batchmean"):
        expected = 30.0**2 * nn.KLDivLoss(reduction="mean")(
            (ADVERSARIAL / 30).log_softmax(dim=1), (TEACHER / 30).softmax(dim=1)
        )
    losses = ArdObjective()(clean=CLEAN, adversarial=ADVERSARIAL, teacher=TEACHER, labels=LABELS)
    assert losses.total.item() == pytest.approx(expected.item(), rel=1e-9)


def test_rslad_is_the_mean_over_an_elementwise_kldivloss():
    elementwise = nn.KLDivLoss(reduction="none")
    target = TEACHER.softmax(dim=1)
    robust, clean = (elementwise(z.log_softmax(dim=1), target).mean() for z in (ADVERSARIAL, CLEAN))
    losses = RsladObjective()(clean=CLEAN, adversarial=ADVERSARIAL, teacher=TEACHER, labels=LABELS)
    assert losses.total.item() == pytest.approx((5 * robust + clean).item() / 6, rel=1e-9)


def test_the_boosted_cross_entropy_of_mart_is_two_of_pytorchs_losses():
    wrong = F.softmax(ADVERSARIAL, dim=1) * (1 - TRUE)
    boosted = F.cross_entropy(ADVERSARIAL, LABELS) + F.nll_loss(
        (1.0001 - wrong).log(), wrong.argmax(dim=1)
    )
    losses = MartObjective()(clean=CLEAN, adversarial=ADVERSARIAL, teacher=TEACHER, labels=LABELS)
    assert losses.terms["robust"].item() == pytest.approx(boosted.item(), rel=1e-9)


def test_mart_leaves_alone_how_smooth_the_student_is_where_it_is_surely_right():
    sure = 60 * TRUE
    losses = MartObjective()(clean=sure, adversarial=-sure, teacher=TEACHER, labels=LABELS)
    assert losses.terms["smooth"].item() < 1e-3  # with a divergence of 60
    wrong = MartObjective()(clean=-sure, adversarial=sure, teacher=TEACHER, labels=LABELS)
    assert wrong.terms["smooth"].item() > 10


@pytest.mark.parametrize("name", OBJECTIVES)
def test_extreme_logits_give_finite_losses_and_gradients(name):
    clean = (1000 * CLEAN.float()).requires_grad_()
    adversarial = (-1000 * CLEAN.float()).requires_grad_()
    losses = OBJECTIVES.make(name)(
        clean=clean, adversarial=adversarial, teacher=1000 * TEACHER.float(), labels=LABELS
    )
    gradients = torch.autograd.grad(losses.total, [clean, adversarial], allow_unused=True)
    assert torch.isfinite(losses.total)
    assert all(g is None or torch.isfinite(g).all() for g in gradients)


def test_every_objective_has_the_inner_maximisation_of_its_method():
    assert {name: (o.inner_loss, o.inner_start) for name, o in OBJECTIVES.items()} == {
        "soft-label": ("kl", "gaussian"),
        "std": ("ce", "uniform"),
        "trades": ("kl", "gaussian"),
        "mart": ("ce", "gaussian"),
        "ard": ("ce", "uniform"),
        "rslad": ("teacher-kl", "gaussian"),
    }


@pytest.mark.parametrize("name", ["std", "trades", "mart", "ard"])
@pytest.mark.parametrize("label", [-1, 5])
def test_a_label_that_is_no_class_is_refused(name, label):
    labels = torch.tensor([0, 1, 2, 3, 4, 0, label])
    with pytest.raises(InputError, match=r"labels: must lie in 0\.\.4"):
        OBJECTIVES.make(name)(clean=CLEAN, adversarial=ADVERSARIAL, teacher=TEACHER, labels=labels)


def test_a_label_that_is_no_class_is_refused_by_the_inner_maximisation(make_student, images):
    inner = InnerMaximization(eps=0.1, loss="ce")
    with pytest.raises(InputError, match=r"labels: must lie in 0\.\.3"):
        inner(
            make_student(), images, generator=np.random.default_rng(0), labels=torch.full((50,), 4)
        )


@pytest.mark.parametrize(
    ("objective", "key", "value"),
    [
        (MartObjective, "beta", -1.0),
        (ArdObjective, "alpha", 1.5),
        (ArdObjective, "temperature", 0.0),
        (RsladObjective, "alpha", float("nan")),
        (RsladObjective, "scale", 0.0),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_by_name(objective, key, value):
    with pytest.raises(InputError, match=key):
        objective(**{key: value})
