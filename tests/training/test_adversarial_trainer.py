"""The training loop against plain loops, its groups and mini-batches, and going on from a state."""

import os
import subprocess
import sys
from copy import deepcopy
from itertools import chain

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dfshield.errors import DfshieldError
from dfshield.schedules import Cosine, Piecewise
from dfshield.seeds import RngStream, generator
from dfshield.training import (
    OBJECTIVES,
    AdversarialTrainer,
    InnerMaximization,
    SoftLabelObjective,
)
from dfshield.training.augmentations import Crop, Cutmix, Cutout, Flip
from dfshield.training.averages import Ema, Swa


def logits_of(images):
    rng = torch.Generator().manual_seed(9)
    return (2 * torch.randn(len(images), 4, generator=rng)).to(images.dtype)


def make_trainer(student, images, **changes):
    labels = torch.arange(len(images))  # a label per image tells which image it was
    arguments = {
        "images": images,
        "labels": labels,
        "teacher_logits": logits_of(images),
        "optimizer": torch.optim.SGD(
            student.parameters(), lr=0.02, momentum=0.9, nesterov=True, weight_decay=1e-2
        ),
        "objective": SoftLabelObjective(),
        # l_2: its steps are continuous, so the last bit of a gradient cannot flip a sign.
        "inner": InnerMaximization(eps=0.5, norm="l2", num_steps=2),
        "epochs": 2,
        "batch_size": 8,
        "num_batches": 3,
        "tau": 0.5,
        "seed": 5,
    }
    return AdversarialTrainer(student, **(arguments | changes))


def equation_11(clean, adversarial, teacher):
    def kl(a, b):
        a, b = F.log_softmax(a, dim=1), F.log_softmax(b, dim=1)
        return (a.exp() * (a - b)).sum() / len(a)

    return kl(teacher, clean) + kl(teacher, adversarial) + kl(clean, adversarial)


def test_one_mini_batch_per_update_is_a_plain_loop(make_student, images):
    images = images.double()
    trainer = make_trainer(make_student().double(), images, num_batches=1)
    losses = []
    while not trainer.done:
        losses.append(trainer.step().loss)

    student = make_student().double()
    sgd = torch.optim.SGD(
        student.parameters(), lr=0.02, momentum=0.9, nesterov=True, weight_decay=1e-2
    )
    expected = []
    for epoch in range(2):
        order = torch.from_numpy(generator(5, RngStream.TRAINING, epoch).permutation(50))
        for batch, rows in enumerate(order.split(8)):
            student.train()
            x_adv = trainer.inner(
                student, images[rows], generator=generator(5, RngStream.TRAINING, epoch, batch)
            )
            loss = equation_11(student(images[rows]), student(x_adv), logits_of(images)[rows])
            sgd.zero_grad()
            loss.backward()
            sgd.step()
            expected.append(loss.item())
    assert losses == pytest.approx(expected, rel=1e-9)
    for name, value in student.state_dict().items():
        torch.testing.assert_close(
            trainer.student.state_dict()[name], value, rtol=1e-7, atol=1e-9, msg=name
        )


def test_a_group_is_computed_at_the_same_weights_and_buffers(make_student, images):
    """One epoch with K = 3 against copies of the student that stands still within each group."""
    images = images.double()
    trainer = make_trainer(make_student().double(), images, epochs=1)
    rates = []
    while not trainer.done:
        rates.append(trainer.step().agreement_rate)

    student = make_student().double().train()
    sgd = torch.optim.SGD(
        student.parameters(), lr=0.02, momentum=0.9, nesterov=True, weight_decay=1e-2
    )
    order = torch.from_numpy(generator(5, RngStream.TRAINING, 0).permutation(50))
    mini_batches = list(enumerate(order.split(8)))
    expected_rates = []
    for group in (mini_batches[:3], mini_batches[3:6], mini_batches[6:]):
        gradients, moving = [], deepcopy(student)
        for batch, rows in group:
            still = deepcopy(student)
            x_adv = trainer.inner(
                still, images[rows], generator=generator(5, RngStream.TRAINING, 0, batch)
            )
            loss = equation_11(still(images[rows]), still(x_adv), logits_of(images)[rows])
            gradients.append(torch.autograd.grad(loss, list(still.parameters())))
            moving(images[rows]), moving(x_adv)  # the buffers, in this order
        student.load_state_dict(moving.state_dict())
        passed = 0
        for parameter, stack in zip(
            student.parameters(), zip(*gradients, strict=True), strict=True
        ):
            g = torch.stack(stack).double()
            agreement = g.sign().mean(dim=0)
            passes = agreement.abs() >= 0.5
            kept = torch.where((agreement * g > 0) & passes, g, 0.0)
            parameter.grad = kept.sum(dim=0)
            passed += passes.sum().item()
        sgd.step()
        expected_rates.append(passed / sum(p.numel() for p in student.parameters()))
    assert rates == pytest.approx(expected_rates, abs=1e-12)
    assert 0 < rates[0] < 1
    for name, value in student.state_dict().items():
        torch.testing.assert_close(
            trainer.student.state_dict()[name], value, rtol=1e-7, atol=1e-9, msg=name
        )


class RememberingObjective(SoftLabelObjective):
    """Keeps the labels of every mini-batch."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __call__(self, *, clean, adversarial, teacher, labels):
        self.seen.append(labels.tolist())
        return super().__call__(
            clean=clean, adversarial=adversarial, teacher=teacher, labels=labels
        )


def test_an_epoch_covers_every_image_once_in_an_order_of_its_own(make_student, images):
    objective = RememberingObjective()
    trainer = make_trainer(make_student(), images, objective=objective)
    records = [trainer.step() for _ in range(6)]
    assert trainer.done
    assert [(r.epoch, r.update, r.ends_epoch) for r in records] == [
        (epoch, update, update == 2) for epoch in range(2) for update in range(3)
    ]
    assert [len(labels) for labels in objective.seen] == 2 * [8, 8, 8, 8, 8, 8, 2]
    first, second = (list(chain(*objective.seen[i : i + 7])) for i in (0, 7))
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second
    assert first != sorted(first)


@pytest.mark.parametrize(
    ("num_images", "batch_size", "num_batches", "batches", "updates"),
    [
        (60_000, 200, 20, 300, 15),
        (10_000, 128, 20, 79, 4),
        (10_000, 200, 1, 50, 50),
        (10, 200, 20, 1, 1),
    ],
)
def test_numbers_of_mini_batches_and_updates(num_images, batch_size, num_batches, batches, updates):
    trainer = make_trainer(
        nn.Sequential(nn.Flatten(), nn.Linear(1, 4)),
        torch.zeros(num_images, 1, 1, 1),
        batch_size=batch_size,
        num_batches=num_batches,
    )
    assert trainer.batches_per_epoch == batches
    assert trainer.updates_per_epoch == updates


def full_state(trainer):
    return deepcopy(trainer.state_dict())


def assert_equal_to_the_bit(trainer, other):
    for name, value in other.student.state_dict().items():
        assert torch.equal(trainer.student.state_dict()[name], value), name
    ours, theirs = trainer.optimizer.state_dict(), other.optimizer.state_dict()
    assert ours["param_groups"] == theirs["param_groups"]
    for index, values in theirs["state"].items():
        assert torch.equal(ours["state"][index]["momentum_buffer"], values["momentum_buffer"])
    assert (trainer.epoch, trainer.update) == (other.epoch, other.update)
    means = [t.state_dict().get("average", []) for t in (trainer, other)]
    assert all(torch.equal(one, two) for one, two in zip(*means, strict=True))


def of_objective(name, norm):
    """Return the arguments of a training with an objective and its own inner maximisation."""
    objective = OBJECTIVES.make(name)
    loss, start = objective.inner_loss, objective.inner_start
    inner = InnerMaximization(eps=0.1, norm=norm, num_steps=2, loss=loss, start=start)
    return {"objective": objective, "inner": inner, "labels": torch.arange(50) % 4}


KEPT = InnerMaximization(eps=0.5, norm="l2", num_steps=1, start="kept")
GROWING = InnerMaximization(eps=0.5, norm="l2", num_steps=3, first_steps=1)


@pytest.mark.parametrize(
    ("objective", "norm", "ingredients"),
    [
        ("soft-label", "l2", {}),
        ("soft-label", "l2", {"schedule": Cosine(warmup=0.4), "average": Ema(decay=0.8)}),
        ("soft-label", "l2", {"schedule": Piecewise(), "average": Swa(start=1)}),
        ("soft-label", "l2", {"weight_perturbation": 0.05}),
        ("soft-label", "l2", {"inner": GROWING}),
        ("soft-label", "l2", {"inner": KEPT}),
        ("trades", "linf", {"augmentations": [Flip(), Crop(padding=2), Cutout(size=3), Cutmix()]}),
        *((name, "linf", {}) for name in OBJECTIVES),
    ],
)
def test_goes_on_from_every_update_boundary_bit_for_bit(
    make_student, images, objective, norm, ingredients
):
    changes = {**of_objective(objective, norm), **ingredients, "teacher": make_student(seed=3)}
    whole = make_trainer(make_student(), images, **changes)
    states, records = [], []
    while not whole.done:
        states.append(full_state(whole))
        records.append(whole.step())
    assert len(states) == 6  # three updates in each of two epochs
    states.append(full_state(whole))
    for boundary, state in enumerate(states[:-1]):
        resumed, expected = (
            make_trainer(make_student(seed=77), images, **changes) for _ in range(2)
        )
        resumed.load_state_dict(state)
        assert resumed.step() == records[boundary]
        expected.load_state_dict(states[boundary + 1])
        assert_equal_to_the_bit(resumed, expected)


def test_an_attack_that_grows_is_that_of_each_update(make_student, images):
    """Each update is what a training with the attack of its place alone would have done."""
    grown = make_trainer(make_student(), images, inner=GROWING)
    for steps in (1, 1, 2, 2, 3, 3):
        fixed = InnerMaximization(eps=0.5, norm="l2", num_steps=steps)
        alone = make_trainer(make_student(seed=77), images, inner=fixed)
        alone.load_state_dict(full_state(grown))
        assert grown.step() == alone.step()
        assert_equal_to_the_bit(grown, alone)


def test_kept_attacks_begin_where_those_of_the_epoch_before_ended(make_student, images):
    inner = InnerMaximization(eps=0.1, num_steps=1, step_size=0.05, start="kept")
    images = images.double()
    trainer = make_trainer(make_student().double(), images, inner=inner, num_batches=1)
    kept = torch.zeros_like(images, dtype=torch.float16)
    for epoch in range(2):
        order = torch.from_numpy(generator(5, RngStream.TRAINING, epoch).permutation(50))
        for batch, rows in enumerate(order.split(8)):
            (found,) = inner.perturb_batches(
                trainer.student,
                [images[rows]],
                generators=[generator(5, RngStream.TRAINING, epoch, batch)],
                kept=kept[rows].float(),
            )
            kept[rows] = (found - images[rows]).half()
            trainer.step()
            assert torch.equal(trainer.state_dict()["perturbations"], kept)
    assert (kept.abs() > 0.06).double().mean() > 0.1  # out of reach of one step


def test_the_seed_decides(make_student, images):
    records = [make_trainer(make_student(), images, seed=seed).step() for seed in (5, 5, 6)]
    assert records[0] == records[1]
    assert records[0].loss != records[2].loss


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16])
def test_images_as_stored_train_as_their_floats_do(make_student, images, dtype):
    stored = (255 * images).round().to(dtype) if dtype == torch.uint8 else images.to(dtype)
    floats = stored.float() / 255 if dtype == torch.uint8 else stored.float()
    logits = torch.randn(len(images), 4, generator=torch.Generator().manual_seed(9))
    trainer, other = (
        make_trainer(make_student(), x, teacher_logits=logits) for x in (stored, floats)
    )
    assert [trainer.step() for _ in range(2)] == [other.step() for _ in range(2)]
    assert_equal_to_the_bit(trainer, other)


def test_an_update_reports_the_means_of_its_terms(make_student, images):
    objective = SoftLabelObjective(lambda1=0.5, lambda2=3.0)
    record = make_trainer(make_student(), images, objective=objective).step()
    parts = sum(record.terms.values())
    assert record.loss == pytest.approx(parts, rel=1e-5)
    assert set(record.terms) == {"clean", "robust", "smooth"}
    assert min(record.terms.values()) > 0


def test_a_training_that_diverges_is_an_error(make_student, images):
    teacher_logits = torch.full((50, 4), float("inf"))
    trainer = make_trainer(make_student(), images, teacher_logits=teacher_logits)
    before = full_state(trainer)["student"]
    with pytest.raises(DfshieldError, match="learning_rate"):
        trainer.step()
    for name, value in trainer.student.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_training_teaches_the_teachers_answers_also_under_perturbation(make_student, images):
    teacher = make_student(seed=3).eval()
    with torch.no_grad():
        teacher_logits = teacher(images)
    student = make_student(seed=4)
    inner = InnerMaximization(eps=0.03, num_steps=2)
    trainer = make_trainer(
        student,
        images,
        teacher_logits=teacher_logits,
        inner=inner,
        optimizer=torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9, nesterov=True),
        epochs=60,
        num_batches=2,
    )
    records = []
    while not trainer.done:
        records.append(trainer.step())
    per_epoch = trainer.updates_per_epoch
    first, last = records[:per_epoch], records[-per_epoch:]
    for term in ("loss", "loss_clean", "loss_robust"):
        start, end = (np.mean([r.to_json()[term] for r in part]) for part in (first, last))
        assert end < 0.5 * start, term
    with torch.no_grad():
        agreement = (student.eval()(images).argmax(1) == teacher_logits.argmax(1)).float().mean()
    assert agreement > 0.8


WITHOUT_SHAPE_CHECKS = """
import random
import numpy, torch
from dfshield.classifiers import build
from dfshield.datasets import load_images
from dfshield.errors import InputError
from dfshield.training import (
    AdversarialTrainer, InnerMaximization, SoftLabelObjective, holdout_metrics, train_supervised
)

torch.set_num_threads(1)
student = build("dfshield:resnet8", input_shape=(1, 8, 8), num_classes=10, options={"width": 4})
digits = load_images("digits", split="val")
images, labels = digits.tensors(slice(0, 40))
random.seed(1), numpy.random.seed(2), torch.manual_seed(3)

def states():
    return random.getstate(), str(numpy.random.get_state()), torch.get_rng_state().tolist()

before = states()
train_supervised(student, digits, digits, epochs=1)
logits = torch.zeros(40, 10)
for norm in ("linf", "l2"):
    inner = InnerMaximization(eps=0.1, norm=norm, num_steps=2)
    AdversarialTrainer(
        student, images=images, labels=labels, teacher_logits=logits, inner=inner, epochs=1,
        optimizer=torch.optim.SGD(student.parameters(), lr=0.1), objective=SoftLabelObjective(),
        batch_size=10, num_batches=2,
    ).step()
    holdout_metrics(student, images, logits, inner=inner, generator=numpy.random.default_rng)
assert states() == before

for key, use in (
    ("norm", lambda: InnerMaximization(eps=0.1, norm="Linf")),
    ("reduction", lambda: SoftLabelObjective(reduction="sum")),
):
    try:
        use()
    except InputError as error:
        assert key in str(error)
    else:
        raise AssertionError(key)
"""


def test_global_generators_are_untouched_and_unknown_names_refused():
    """In a process of its own: the shape checks draw from Python's generator and refuse names."""
    subprocess.run(
        [sys.executable, "-c", WITHOUT_SHAPE_CHECKS],
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
