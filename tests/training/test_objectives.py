"""Equation 11 and TRADES against formulas in float64, and where their gradients go."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from torch import nn

from dfshield.errors import InputError
from dfshield.training import SoftLabelObjective, TradesObjective, kl_divergence


def logits(seed, n=7, k=5):
    return 3 * torch.randn(n, k, generator=torch.Generator().manual_seed(seed))


CLEAN, ADVERSARIAL, TEACHER = logits(1), logits(2), logits(3)
LABELS = torch.tensor([0, 1, 2, 3, 4, 0, 2])


def mean_kl(target, prediction):
    """Return the batch mean of KL(softmax(target) || softmax(prediction)) in float64."""
    target, prediction = target.double().numpy(), prediction.double().numpy()
    difference = log_softmax(target, axis=1) - log_softmax(prediction, axis=1)
    return (softmax(target, axis=1) * difference).sum() / len(target)


def call(objective, clean=CLEAN, adversarial=ADVERSARIAL, teacher=TEACHER, labels=LABELS):
    return objective(clean=clean, adversarial=adversarial, teacher=teacher, labels=labels)


def test_the_terms_of_equation_11_equal_a_float64_formula():
    losses = call(SoftLabelObjective(lambda1=0.1, lambda2=2.5))
    expected = (
        mean_kl(TEACHER, CLEAN),
        0.1 * mean_kl(TEACHER, ADVERSARIAL),
        2.5 * mean_kl(CLEAN, ADVERSARIAL),
    )
    assert losses.terms["clean"].item() == pytest.approx(expected[0], rel=1e-5)
    assert losses.terms["robust"].item() == pytest.approx(expected[1], rel=1e-5)
    assert losses.terms["smooth"].item() == pytest.approx(expected[2], rel=1e-5)
    assert losses.total.item() == pytest.approx(sum(expected), rel=1e-5)


def test_by_default_the_three_terms_weigh_the_same():
    losses = call(SoftLabelObjective())
    expected = sum(
        mean_kl(a, b) for a, b in ((TEACHER, CLEAN), (TEACHER, ADVERSARIAL), (CLEAN, ADVERSARIAL))
    )
    assert losses.total.item() == pytest.approx(expected, rel=1e-5)


def test_the_official_clean_term_is_pytorchs_mean_times_the_squared_temperature():
    official = call(SoftLabelObjective(temperature=20.0, reduction="mean"))
    # PyTorch warns that its "mean" is not the mean over the batch: just what is meant here.
    with pytest.warns(UserWarning, match="batchmean"):
        expected = 20.0**2 * nn.KLDivLoss(reduction="mean")(
            (CLEAN.double() / 20).log_softmax(dim=1), (TEACHER.double() / 20).softmax(dim=1)
        )
    assert official.terms["clean"].item() == pytest.approx(expected.item(), rel=1e-4)
    paper = call(SoftLabelObjective())
    assert torch.equal(official.terms["robust"], paper.terms["robust"])
    assert torch.equal(official.terms["smooth"], paper.terms["smooth"])


def test_near_a_high_temperature_the_official_term_is_logit_matching():
    difference = (CLEAN - TEACHER).double()
    centred = difference - difference.mean(dim=1, keepdim=True)
    num_classes = CLEAN.shape[1]
    expected = centred.square().sum(dim=1).mean() / (2 * num_classes**2)
    hot = kl_divergence(TEACHER.double(), CLEAN.double(), temperature=1e4, reduction="mean")
    assert hot.item() == pytest.approx(expected.item(), rel=1e-3)


def test_trades_equals_a_float64_formula():
    losses = call(TradesObjective(beta=6.0))
    scores = log_softmax(CLEAN.double().numpy(), axis=1)
    cross_entropy = -scores[np.arange(len(LABELS)), LABELS.numpy()].mean()
    smooth = 6.0 * mean_kl(CLEAN, ADVERSARIAL)
    assert losses.terms["clean"].item() == pytest.approx(cross_entropy, rel=1e-5)
    assert losses.terms["smooth"].item() == pytest.approx(smooth, rel=1e-5)
    assert set(losses.terms) == {"clean", "smooth"}
    assert losses.total.item() == pytest.approx(cross_entropy + smooth, rel=1e-5)


@pytest.mark.parametrize("options", [{}, {"temperature": 20.0, "reduction": "mean"}])
def test_zero_when_the_student_is_the_teacher_and_nothing_is_perturbed(
    make_student, images, options
):
    teacher = make_student().eval()
    student = deepcopy(teacher)
    losses = call(
        SoftLabelObjective(**options),
        clean=student(images),
        adversarial=student(images),
        teacher=teacher(images).detach(),
        labels=torch.zeros(len(images), dtype=torch.int64),
    )
    for value in (losses.total, *losses.terms.values()):
        assert value.item() == pytest.approx(0, abs=1e-7)
    losses.total.backward()
    assert max(p.grad.abs().max().item() for p in student.parameters()) < 1e-6


def test_it_is_positive_otherwise():
    for pair in ({"clean": TEACHER}, {"adversarial": TEACHER}, {"adversarial": CLEAN}):
        assert call(SoftLabelObjective(), **pair).total > 0.1


def test_the_smoothness_gradient_reaches_both_branches_with_the_right_values():
    clean = CLEAN.double().requires_grad_()
    adversarial = ADVERSARIAL.double().requires_grad_()
    smooth = call(SoftLabelObjective(lambda2=2.0), clean=clean, adversarial=adversarial).terms[
        "smooth"
    ]
    to_clean, to_adversarial = torch.autograd.grad(smooth, [clean, adversarial])
    p, q = CLEAN.double().softmax(dim=1), ADVERSARIAL.double().softmax(dim=1)
    difference = p.log() - q.log()
    divergence = (p * difference).sum(dim=1, keepdim=True)
    torch.testing.assert_close(to_clean, 2 * p * (difference - divergence) / len(p))
    torch.testing.assert_close(to_adversarial, 2 * (q - p) / len(p))


def test_extreme_logits_give_finite_losses_and_gradients():
    clean = (1000 * CLEAN).requires_grad_()
    losses = call(SoftLabelObjective(), clean=clean, adversarial=-clean, teacher=1000 * TEACHER)
    (gradient,) = torch.autograd.grad(losses.total, [clean])
    assert torch.isfinite(losses.total)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("objective", "key", "value"),
    [
        (SoftLabelObjective, "lambda1", -1.0),
        (SoftLabelObjective, "lambda2", float("inf")),
        (SoftLabelObjective, "temperature", 0.0),
        (TradesObjective, "beta", float("nan")),
    ],
)
def test_a_weight_that_makes_no_sense_is_refused_by_name(objective, key, value):
    with pytest.raises(InputError, match=key):
        objective(**{key: value})
