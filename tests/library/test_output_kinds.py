"""What models answer with, through the Python API of synthesis and training; the attacks, the
evaluation and the audit are in tests/evaluation, the command line in tests/runs."""

import copy
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "classifiers"))

from odd_factories import (
    LOGITS,
    NO_LOGITS,
    PRECISIONS,
    PROBABILITIES,
    STRUCTURES,
    SoftmaxInTraining,
    plain,
)

from dfshield.classifiers import Classifier
from dfshield.datasets import ImageSet
from dfshield.engine.acceleration import Acceleration
from dfshield.errors import InputError
from dfshield.synthesis import Inversion
from dfshield.training import (
    AdversarialTrainer,
    InnerMaximization,
    SoftLabelObjective,
    holdout_metrics,
    require_deferrable,
    require_trainable,
    train_supervised,
)

X = torch.rand(18, 1, 8, 8, generator=torch.Generator().manual_seed(3))
with torch.no_grad():
    Z = plain().eval()(X)
DIGITS = ImageSet(X[:, 0].numpy(), Z.argmax(1).numpy(), tuple("0123456789"), "digits", "train")
INNER = InnerMaximization(eps=0.1, num_steps=2)
ALL = {**PRECISIONS, **PROBABILITIES, **LOGITS, **STRUCTURES, **NO_LOGITS}
ALL["softmax in train mode"] = lambda: SoftmaxInTraining(plain())
NOT_FLOAT32 = [k for k in PRECISIONS if k not in ("float32", "autocast")] + ["bfloat16 softmax"]
IN_TRAIN_MODE = ("nothing in train mode", "softmax in train mode")


class Scaled(nn.Module):
    def forward(self, x):
        return (x - 0.5) * 2


def reference_of(kind):
    """Return an ordinary model that computes the same as one of these."""
    if kind == "changes its input":
        return nn.Sequential(Scaled(), *plain())
    return plain()


def invert(net):
    classifier = Classifier.wrap(net, input_shape=(1, 8, 8))
    return Inversion(classifier, iterations=3).synthesize(seed=0, batch=0, size=4).images


def trainer_of(student, **options):
    return AdversarialTrainer(
        student,
        images=X,
        labels=Z.argmax(1),
        teacher_logits=Z,
        optimizer=torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9),
        objective=SoftLabelObjective(),
        inner=INNER,
        epochs=1,
        batch_size=5,
        num_batches=2,
        **options,
    )


def train(student, **options):
    trainer = trainer_of(student, **options)
    records = []
    while not trainer.done:
        records.append(trainer.step())
    metrics = holdout_metrics(
        trainer.attacked, X, Z, inner=INNER, generator=np.random.default_rng, batch_size=9
    )
    return records, metrics, [weight.detach() for weight in student.parameters()]


def teach(classifier):
    kept = train_supervised(classifier, DIGITS, DIGITS, epochs=2, batch_size=6)
    return kept, [weight.detach() for weight in classifier.parameters()]


@cache
def of_reference(does, changed):
    return does(reference_of("changes its input" if changed else ""))


def equal(first, second):
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, list | tuple):
        return all(map(equal, first, second)) and len(first) == len(second)
    return first == second


@pytest.mark.parametrize("does", [invert, train, teach])
@pytest.mark.parametrize("kind", STRUCTURES)
def test_every_structure_gives_what_plain_logits_give(kind, does):
    assert equal(does(STRUCTURES[kind]()), of_reference(does, kind == "changes its input"))


@pytest.mark.parametrize("kind", STRUCTURES)
def test_every_structure_is_trained_with_acceleration_and_passes_the_checks(kind):
    fast = {"acceleration": Acceleration("bfloat16"), "batches_per_pass": 2}
    records, *_ = train(STRUCTURES[kind](), **fast)
    expected, *_ = train(reference_of(kind), **fast)
    assert records == expected
    require_trainable(STRUCTURES[kind](), X, name="the model")
    require_deferrable(STRUCTURES[kind](), X)


@pytest.mark.parametrize("kind", LOGITS)
def test_what_only_looks_a_little_like_probabilities_is_hardened(kind):
    assert invert(LOGITS[kind]()).shape == (4, 1, 8, 8)
    records, *_ = train(LOGITS[kind]())
    assert len(records) == 2


@pytest.mark.parametrize("kind", [k for k in NO_LOGITS if k not in IN_TRAIN_MODE])
@pytest.mark.parametrize("does", [invert, trainer_of, teach])
def test_what_is_no_logits_is_one_line(kind, does):
    with pytest.raises(InputError, match=r"the model (must return|returns one number)") as told:
        does(NO_LOGITS[kind]())
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("kind", IN_TRAIN_MODE)
def test_what_is_no_logits_in_train_mode_is_one_line_in_training(kind):
    student = ALL[kind]()
    before = copy.deepcopy(student.state_dict())
    with pytest.raises(InputError, match=r"must return logits|in train mode it returns prob"):
        trainer_of(student).step()
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert invert(student).shape == (4, 1, 8, 8)  # which asks in eval mode alone


@pytest.mark.parametrize("kind", PROBABILITIES)
@pytest.mark.parametrize("does", [invert, trainer_of])
def test_probabilities_are_one_line(kind, does):
    with pytest.raises(InputError, match=r"LogProbabilities|float\(\)"):
        does(PROBABILITIES[kind]())


@pytest.mark.parametrize("kind", NOT_FLOAT32)
def test_other_precisions_are_inverted_by_none_and_half_ones_not_trained(kind):
    with pytest.raises(InputError, match=r"model\.float\(\)"):
        invert(ALL[kind]())
    if "double" in kind:
        assert len(train(ALL[kind]())[0]) == 2
    else:
        with pytest.raises(InputError, match=r"student\.float\(\)"):
            trainer_of(ALL[kind]())
