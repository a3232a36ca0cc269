"""The audit over classifiers that mask their gradient, and over honest ones."""

import pytest
from models_of_digits import EPS, MASKED

from dfshield.audit import audit

CAUGHT_BY = {
    "quantised": {"gradients", "unbounded", "black-box", "transfer"},
    "saturated": {"gradients", "unbounded", "losses"},
    "overconfident": {"losses"},
    "probabilities": {"gradients", "unbounded"},
    "stochastic": {"deterministic", "smooth-loss"},
    "shattered": {"smooth-loss", "unbounded", "black-box", "transfer"},
    "batch-statistics": {"batch-independent"},
    "constant": {"floor", "unbounded", "gradients"},
}
"""The lines that are made for what a classifier does, of those that need no AutoAttack."""
HONEST = ("standard", "robust", "robust_dense")


@pytest.mark.slow
@pytest.mark.parametrize("kind", MASKED)
def test_a_masked_classifier_is_caught_by_the_right_lines(kind, standard, robust_dense, digits):
    report = audit(MASKED[kind](standard), digits, eps=EPS, source=robust_dense, autoattack=False)
    assert report.verdict == "fail"
    assert set(report.failed()) >= CAUGHT_BY[kind], report.failed()


@pytest.mark.slow
@pytest.mark.parametrize("kind", HONEST)
def test_an_honest_classifier_passes(kind, request, digits):
    model, other = (request.getfixturevalue(name) for name in (kind, "standard"))
    x, y = digits
    report = audit(model, (x[:60], y[:60]), eps=EPS, source=None if model is other else other)
    assert report.failed() == []
    skipped = {check.key for check in report.checks if check.verdict == "not run"}
    assert skipped == ({"transfer"} if model is other else set())
    gap = report.check("autoattack-gap").evidence
    assert gap["autoattack"] <= gap["pgd"]
    course = report.check("more-steps").evidence["accuracy"]
    assert course[0] > course[-1] > 0


@pytest.mark.slow
def test_autoattack_comes_out_far_below_pgd_where_there_is_no_gradient(standard, digits):
    x, y = digits
    report = audit(MASKED["quantised"](standard), (x[:40], y[:40]), eps=EPS)
    assert "autoattack-gap" in report.failed()
    assert any("zero gradient" in note for note in report.check("autoattack-gap").evidence["notes"])


@pytest.mark.slow
def test_a_randomised_classifier_meets_autoattack_with_many_draws(standard, digits):
    x, y = digits
    report = audit(MASKED["stochastic"](standard), (x[:20], y[:20]), eps=EPS)
    assert report.check("autoattack-gap").evidence["version"] == "rand"
