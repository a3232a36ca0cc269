"""The audit of models behind defences: it catches those that are not evaluated adaptively."""

import pytest
import torch
from models_of_digits import EPS
from safetensors.torch import save_file
from torch import nn

from dfshield.attacks import PGD, AutoAttack, Noise, Transfer
from dfshield.audit import NUM_CHECKS, NUM_DEFENCE_CHECKS, audit
from dfshield.audit.defence_checks import Evaluated, draws_averaged, gradient_followed
from dfshield.audit.subject import Subject
from dfshield.defences import DAD, TTE, Defence, Detector, DiffPure, ScoreNetwork


class Jittered(nn.Module):
    """A model that sees its images with noise, another one every time."""

    def __init__(self, model, *, rounded):
        super().__init__()
        self.model, self.rounded = model, rounded

    def forward(self, x):
        if self.rounded:
            return self.model((4 * x).round() / 4)
        noise = torch.randn_like(x)
        # Its gradient is far more random than its answer: that of one draw says little.
        return self.model(x + 0.01 * noise + 10 * noise * (x - x.detach()))


class Jitter(Defence):
    name = "jitter"
    randomised = True

    def around(self, model):
        return Jittered(model, rounded=False)


class Rounding(Defence):
    """Four grey levels: no gradient, and nothing in its place."""

    name = "rounding"
    differentiable = False

    def around(self, model):
        return Jittered(model, rounded=True)


class PassedRounding(Rounding):
    bpda = "identity"

    def around(self, model):
        rounded = Jittered(model, rounded=True)
        rounded.forward = lambda x: model(x + ((4 * x).round() / 4 - x).detach())
        return rounded


@pytest.fixture
def checked(standard, digits):
    """The two lines of a defence, given the attacks of its evaluation."""
    x, y = digits[0][:24], digits[1][:24]

    def check(defence, *attacks):
        subject = Subject(
            defence.wrap(standard),
            x,
            y,
            norm="linf",
            eps=EPS,
            seed=0,
            slice_size=24,
            tell=lambda _: None,
        )
        evaluated = Evaluated(defence, attacks, standard)
        with torch.random.fork_rng(devices=[]):
            return draws_averaged(subject, evaluated), gradient_followed(subject, evaluated)

    return check


def unaware(model):
    return Transfer(eps=EPS, source=model)


def test_a_randomised_defence_without_eot_fails(checked):
    draws, _ = checked(Jitter(), PGD(eps=EPS), AutoAttack(eps=EPS))
    assert draws.verdict == "fail"
    assert "none of its attacks" in draws.finding
    for averaging in (PGD(eps=EPS, eot=5), AutoAttack(eps=EPS, version="rand")):
        draws, gradient = checked(Jitter(), PGD(eps=EPS), averaging)
        assert (draws.verdict, gradient.verdict) == ("pass", "pass")
        assert averaging.label in draws.finding
    # The gap between the columns is what the line is about.
    assert draws.evidence["mean"] < draws.evidence["single"]


def test_a_step_without_gradient_fails_without_bpda_or_transfer(checked, standard):
    draws, gradient = checked(Rounding(), PGD(eps=EPS))
    assert (draws.verdict, gradient.verdict) == ("pass", "fail")
    assert gradient.evidence["unaware"] < gradient.evidence["aware"]  # its zero gradient
    assert checked(Rounding(), PGD(eps=EPS), unaware(standard))[1].verdict == "warn"
    assert checked(Rounding(), PGD(eps=EPS), Noise(eps=EPS))[1].verdict == "warn"
    passed = checked(PassedRounding(), PGD(eps=EPS))[1]
    assert passed.verdict == "pass"
    assert "BPDA (identity) is followed by PGD-20" in passed.finding
    assert passed.evidence["aware"] < gradient.evidence["aware"]


def test_a_defence_that_no_attack_knows_of_fails(checked, standard):
    assert checked(TTE(), PGD(eps=EPS))[1].verdict == "pass"
    blind = checked(TTE(), unaware(standard))[1]
    assert blind.verdict == "fail"
    assert "no attack of the evaluation is made on the model behind tte" in blind.finding


@pytest.fixture
def published(tmp_path):
    """The three published defences; the networks of two of them are fitted to nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        networks = {"detector": Detector(10), "score": ScoreNetwork(1, 4)}
    networks["detector"].adapted.fill_(True)
    for name, network in networks.items():
        save_file(network.state_dict(), tmp_path / name)
    return {
        "tte": TTE(),
        "dad": DAD(detector=str(tmp_path / "detector"), passes=1),
        "diffpure": DiffPure(score=str(tmp_path / "score"), t=0.02, step=0.02),
    }


@pytest.mark.parametrize("name", ["tte", "dad", pytest.param("diffpure", marks=pytest.mark.drill)])
def test_every_published_defence_is_caught_if_its_evaluation_does_not_know_of_it(
    checked, standard, published, name
):
    blind = checked(published[name], unaware(standard))
    assert blind[1].verdict == "fail"
    assert f"no attack of the evaluation is made on the model behind {name}" in blind[1].finding
    single = checked(published[name], PGD(eps=EPS, num_steps=5))
    assert [one.verdict for one in single] == ["fail" if name == "diffpure" else "pass", "pass"]
    knowing = PGD(eps=EPS, num_steps=5, eot=3 if name == "diffpure" else 1)
    assert [one.verdict for one in checked(published[name], knowing)] == ["pass", "pass"]


def test_a_whole_audit_has_the_lines_and_takes_the_bare_model_as_source(standard, digits):
    x, y = digits
    told = []
    report = audit(
        standard,
        (x[:8], y[:8]),
        eps=EPS,
        defence=Jitter(),
        evaluated=[PGD(eps=EPS, eot=2)],
        autoattack=False,
        on_check=told.append,
    )
    assert len(report.checks) == len(told) == NUM_CHECKS + NUM_DEFENCE_CHECKS
    assert report.check("defence-draws").verdict == "pass"
    assert report.check("defence-gradient").verdict == "pass"
    assert report.check("deterministic").verdict == "warn"  # its evaluation averages
    assert report.check("transfer").verdict != "not run"
