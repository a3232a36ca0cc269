"""The training loop against plain loops, and its groups and mini-batches."""

from copy import deepcopy
from itertools import chain

import numpy as np
import pytest
import torch
from small_trainer import equation_11, full_state, logits_of, make_trainer
from torch import nn

from dfshield.errors import DfshieldError
from dfshield.seeds import RngStream, generator
from dfshield.training import InnerMaximization, SoftLabelObjective


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


def test_the_seed_decides(make_student, images):
    records = [make_trainer(make_student(), images, seed=seed).step() for seed in (5, 5, 6)]
    assert records[0] == records[1]
    assert records[0].loss != records[2].loss


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
