"""The lines one by one, the comparison of attacks, and what an audit leaves as it was."""

import json

import numpy as np
import pytest
import torch
from models_of_digits import EPS, MASKED
from torch import nn

from dfshield.audit import NUM_CHECKS, AuditReport, audit, compare, roughness
from dfshield.errors import InputError


@pytest.fixture(scope="module")
def report(standard, digits):
    x, y = digits
    return audit(standard, (x[:50], y[:50]), eps=EPS, autoattack=False, seed=3)


def binomial_tail(k, n):
    """P(X >= k), X the heads of n fair coins."""
    from math import comb

    return sum(comb(n, i) for i in range(k, n + 1)) / 2**n


@pytest.mark.parametrize(
    ("alone", "other_alone", "verdict"),
    [
        (0, 0, "pass"),
        (5, 5, "pass"),
        (0, 4, "pass"),
        (0, 5, "warn"),
        (0, 7, "fail"),
        (9, 7, "pass"),
    ],
)
def test_attacks_are_compared_on_the_images_that_one_of_them_breaks(alone, other_alone, verdict):
    both, neither = 11, 13
    stronger = np.repeat([True, False, True, False], [alone, other_alone, both, neither])
    weaker = np.repeat([False, True, True, False], [alone, other_alone, both, neither])
    found = compare(stronger, weaker)
    assert (found.stronger_alone, found.weaker_alone) == (alone, other_alone)
    assert found.p_value == pytest.approx(binomial_tail(other_alone, alone + other_alone))
    assert found.verdict == verdict


def test_roughness_tells_smooth_from_jagged():
    t = np.linspace(-1, 1, 61)
    draw = np.random.default_rng(0)
    assert roughness(t, 1000 * t**2) < 0.1
    assert roughness(t, np.abs(t)) < 0.1
    assert roughness(t, np.exp(3 * t)) < 0.1
    assert roughness(t, np.round(3 * t)) > 0.9
    assert roughness(t, draw.standard_normal(61)) > 0.7
    assert roughness(t, 0 * t) is None
    uneven = np.sort(draw.uniform(-1, 1, 61))
    assert roughness(uneven, uneven**2) < 0.1


def test_every_line_has_its_numbers(report):
    keys = [check.key for check in report.checks]
    assert len(keys) == len(set(keys)) == NUM_CHECKS
    for check in report.checks:
        assert check.finding
        assert check.source
        assert bool(check.evidence) == (check.verdict != "not run")
    steps = report.check("more-steps").evidence
    assert steps["steps"] == [1, 2, 5, 10, 20, 50, 100]
    assert report.check("unbounded").evidence["standing"] == 0
    with pytest.raises(KeyError):
        report.check("nothing")


def test_an_audit_repeats_itself_and_leaves_everything_as_it_was(report, standard, digits):
    x, y = digits
    standard.train()
    state = torch.random.get_rng_state()
    weights = {name: value.clone() for name, value in standard.state_dict().items()}
    checks = []
    again = audit(
        standard, (x[:50], y[:50]), eps=EPS, autoattack=False, seed=3, on_check=checks.append
    )
    assert len(checks) == NUM_CHECKS
    assert sorted(map(id, checks)) == sorted(map(id, again.checks))
    assert standard.training
    standard.eval()
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(weights[n], value) for n, value in standard.state_dict().items())
    assert again.model_copy(update={"seconds": report.seconds}) == report


def test_the_landscape_rises_along_the_gradient(report):
    around = report.landscape
    middle = len(around.positions) // 2
    across = np.array(around.surface)[middle]
    assert across[0] < across[middle] < across[-1]
    lines = np.array(around.along_gradient)
    assert lines.shape == (16, len(around.line_positions))
    assert (lines[:, -1] > lines[:, 0]).mean() > 0.9


def test_l2(robust_dense, digits):
    x, y = digits
    report = audit(robust_dense, (x[:40], y[:40]), eps="2/2", norm="l2", autoattack=False)
    assert report.failed() == []
    assert report.check("larger-eps").evidence["eps"] == [0.25, 0.5, 1.0, 2.0, 4.0]


def test_two_classes(digits):
    x, y = digits
    few = y < 2
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
        for _ in range(60):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[few]), y[few]).backward()
            optimizer.step()
    report = audit(model, (x[few], y[few]), eps=EPS, autoattack=False)
    assert report.failed() == []
    assert report.check("losses").evidence["losses"] == ["ce", "cw", "kl"]


class NaNs(nn.Module):
    """Logits turn NaN where an image has been moved far."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        broken = x.mean((1, 2, 3), keepdim=True).flatten(1) > 0.35
        return torch.where(broken, torch.nan, self.net(x))


def test_logits_that_are_not_finite_fail(standard, digits):
    x, y = digits
    report = audit(NaNs(standard), (x[:30], y[:30]), eps=EPS, autoattack=False)
    assert "finite-logits" in report.failed()
    assert report.check("finite-logits").evidence["images"] > 0
    assert AuditReport.from_json(report.to_json()) == report


def test_layers_without_running_statistics_are_found(digits):
    net = nn.Sequential(
        nn.BatchNorm2d(1, track_running_stats=False), nn.Flatten(), nn.Linear(64, 10)
    )
    x, y = digits
    report = audit(net, (x[:30], y[:30]), eps=EPS, autoattack=False)
    check = report.check("batch-independent")
    assert check.verdict == "fail"
    assert check.evidence["layers_with_batch_statistics"] == 1


def test_json_round_trip(report):
    assert AuditReport.from_json(report.to_json()) == report
    with pytest.raises(InputError, match=r"^a\.json: "):
        AuditReport.from_json("{}", source="a.json")
    newer = report.model_copy(update={"format_version": 9})
    with pytest.raises(InputError, match="format version 9 is newer"):
        AuditReport.from_json(newer.to_json())
    unknown = json.dumps(json.loads(newer.to_json()) | {"mood": "good"})
    with pytest.raises(InputError, match="format version 9 is newer"):
        AuditReport.from_json(unknown)


@pytest.mark.parametrize("eps", [0, 8])
def test_a_radius_that_makes_no_sense_is_refused(standard, digits, eps):
    with pytest.raises(InputError, match="eps"):
        audit(standard, digits, eps=eps)


class Cut(nn.Module):
    """Logits without a gradient."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x).detach()


def test_a_model_without_a_gradient_is_caught(standard, robust_dense, digits):
    report = audit(Cut(standard), digits, eps=EPS, source=robust_dense, autoattack=False)
    assert set(report.failed()) >= {"gradients", "unbounded", "black-box", "transfer"}
    assert "carry no gradient at all" in report.check("gradients").finding


def test_a_constant_classifier_has_not_beaten_the_floor(standard, digits):
    x, y = digits
    report = audit(MASKED["constant"](standard), (x[:40], y[:40]), eps=EPS, autoattack=False)
    floor = report.check("floor")
    assert floor.verdict == "fail"
    assert floor.evidence["largest_prediction_share"] == 1
