"""What models answer with, through every entry that takes one: each cell is right or one line."""

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "classifiers"))

from odd_factories import LOGITS, NO_LOGITS, PRECISIONS, PROBABILITIES, STRUCTURES, plain

from dfshield.attacks import ATTACKS, FGSM, PGD, AutoAttack, ObjectivePGD, Square
from dfshield.audit import audit
from dfshield.errors import DfshieldWarning, InputError
from dfshield.evaluation import evaluate
from dfshield.training import InnerMaximization

EPS = 0.05
X = torch.rand(24, 1, 8, 8, generator=torch.Generator().manual_seed(3))
Y = plain().eval()(X).argmax(1)


def made(kinds, kind):
    return kinds[kind]().eval()


@pytest.mark.parametrize("kind", PRECISIONS)
@pytest.mark.parametrize("images", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_every_precision_of_model_and_images_is_attacked_and_evaluated(kind, images):
    model, x = made(PRECISIONS, kind), X.to(images)
    reference = evaluate(plain().eval(), (X, Y), PGD(eps=EPS, num_steps=5))
    result = evaluate(model, (x, Y), PGD(eps=EPS, num_steps=5))
    assert abs(result.accuracy - reference.accuracy) <= 0.1
    assert evaluate(model, (x, Y), None).accuracy >= 0.9
    x_adv = PGD(eps=EPS, num_steps=5)(model, x, Y)
    assert x_adv.dtype == torch.float32 or images == torch.float64
    assert float((x_adv - x).abs().max()) <= EPS + 1e-6


@pytest.mark.parametrize("kind", PRECISIONS)
@pytest.mark.parametrize("name", ["apgd-t", "fab-t", "square", "spsa", "latent", "noise"])
def test_every_attack_takes_every_precision(kind, name):
    options = {
        "apgd-t": {"num_steps": 4},
        "fab-t": {"num_steps": 3},
        "square": {"queries": 20},
        "spsa": {"num_steps": 2, "samples": 8},
        "latent": {"num_steps": 3},
        "noise": {"samples": 2},
    }[name]
    x_adv = ATTACKS[name](eps=EPS, **options)(made(PRECISIONS, kind), X[:6], Y[:6])
    assert float((x_adv - X[:6]).abs().max()) <= EPS + 1e-6


def test_a_teacher_of_another_precision_is_understood():
    attack = ObjectivePGD(eps=EPS, teacher=made(PRECISIONS, "half"), num_steps=2)
    assert attack(made(PRECISIONS, "double"), X, Y).dtype == torch.float32


def some(kinds, *names):
    """The kinds as parameters, of which CI takes those that are named."""
    return [k if k in names else pytest.param(k, marks=pytest.mark.drill) for k in kinds]


@pytest.mark.slow
@pytest.mark.parametrize("kind", some(PRECISIONS, "half", "double that casts", "autocast"))
def test_every_precision_is_audited(kind):
    report = audit(made(PRECISIONS, kind), (X, Y), eps=EPS, autoattack=False)
    assert report.check("logits").verdict == "pass"
    assert report.check("finite-logits").verdict == "pass"
    assert report.check("deterministic").verdict == "pass"


def test_training_attacks_models_of_every_precision():
    rng = np.random.default_rng(0)
    inner = InnerMaximization(eps=EPS, num_steps=2)
    for kind in PRECISIONS:
        assert inner(made(PRECISIONS, kind), X, generator=rng).dtype == torch.float32


@pytest.mark.parametrize("kind", PROBABILITIES)
def test_probabilities_are_told_by_every_entry(kind):
    model = made(PROBABILITIES, kind)
    # One image is asked about at first: of percentages its answer says nothing.
    for attack in (FGSM(eps=EPS), Square(eps=EPS, queries=5)) if kind != "percent" else ():
        with pytest.warns(DfshieldWarning, match="probabilities instead of logits"):
            attack(model, X, Y)
    for attack in (None, PGD(eps=EPS, num_steps=2)):
        result = evaluate(model, (X, Y), attack, slice_size=10)
        assert result.probabilities is True
        assert sum("probabilities instead of logits" in note for note in result.notes) == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", some(PROBABILITIES, "softmax x 40", "percent"))
def test_probabilities_fail_the_audit_at_any_scale(kind):
    report = audit(made(PROBABILITIES, kind), (X, Y), eps=EPS, autoattack=False)
    assert "logits" in report.failed()
    assert "softmax" in report.check("logits").finding


@pytest.mark.parametrize("kind", LOGITS)
def test_what_only_looks_a_little_like_them_is_left_in_peace(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("error", DfshieldWarning)
        FGSM(eps=EPS)(made(LOGITS, kind), X, Y)
    assert evaluate(made(LOGITS, kind), (X, Y), None).probabilities is False


def test_log_probabilities_take_nothing_from_autoattack():
    attack = AutoAttack(eps=EPS, version="custom", attacks="apgd-ce,apgd-t", num_steps=10)
    plainly = evaluate(plain().eval(), (X, Y), attack).num_correct
    assert evaluate(made(LOGITS, "log-softmax"), (X, Y), attack).num_correct == plainly
    assert abs(evaluate(made(LOGITS, "mended softmax"), (X, Y), attack).num_correct - plainly) <= 1


class Scaled(nn.Module):
    def forward(self, x):
        return (x - 0.5) * 2


@pytest.mark.parametrize("kind", STRUCTURES)
def test_logits_are_found_in_every_structure(kind):
    model, reference, kept = made(STRUCTURES, kind), plain().eval(), X.clone()
    if kind == "changes its input":
        reference = nn.Sequential(Scaled(), *reference).eval()
    for name in ("pgd", "apgd-t", "square", "latent"):
        options = {"square": {"queries": 20}}.get(name, {"num_steps": 3})
        attack = ATTACKS[name](eps=EPS, **options)
        assert torch.equal(attack(model, X[:6], Y[:6]), attack(reference, X[:6], Y[:6]))
        # One image alone, where a squeezed answer has lost its row.
        assert torch.equal(attack(model, X[:1], Y[:1]), attack(reference, X[:1], Y[:1]))
    result, other = (
        evaluate(each, (X, Y), PGD(eps=EPS, num_steps=3), slice_size=23)
        for each in (model, reference)
    )
    assert result.accuracy == other.accuracy
    assert not result.randomised
    assert torch.equal(X, kept)


@pytest.mark.parametrize("kind", ["dict", "changes its input", "names of its own"])
def test_every_structure_is_audited(kind):
    report = audit(made(STRUCTURES, kind), (X, Y), eps=EPS, autoattack=False)
    assert report.check("deterministic").verdict == "pass"
    assert report.check("logits").verdict == "pass"


@pytest.mark.parametrize("kind", [kind for kind in NO_LOGITS if kind != "nothing in train mode"])
def test_what_is_no_logits_is_one_line_everywhere(kind):
    model = made(NO_LOGITS, kind)
    entries = (
        lambda: PGD(eps=EPS)(model, X, Y),
        lambda: AutoAttack(eps=EPS)(model, X, Y),
        lambda: evaluate(model, (X, Y), None),
        lambda: audit(model, (X, Y), eps=EPS, autoattack=False),
    )
    for entry in entries:
        with pytest.raises(InputError, match=r"the model (must return|returns one number)"):
            entry()
