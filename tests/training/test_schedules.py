"""Learning-rate schedules against PyTorch's schedulers, and the rates that a training takes."""

import pytest
import torch
from small_trainer import make_trainer
from torch import nn
from torch.optim import lr_scheduler

from dfshield.errors import InputError
from dfshield.schedules import Constant, Cosine, Piecewise
from dfshield.training import SCHEDULES

UPDATES = 20


def factors(schedule, num_updates=UPDATES):
    return [schedule.factor(update, num_updates) for update in range(num_updates)]


def of_pytorch(make, num_updates=UPDATES):
    """Return the rates of a scheduler over an optimizer whose own rate is 1."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    rates = []
    for _ in range(num_updates):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def warmed(optimizer, after, updates=5):
    """Return PyTorch's chain of a warm-up and what comes after it."""
    rising = lr_scheduler.LinearLR(optimizer, start_factor=1 / (updates + 1), total_iters=updates)
    return lr_scheduler.SequentialLR(optimizer, [rising, after], milestones=[updates])


@pytest.mark.parametrize(
    ("schedule", "make"),
    [
        (Constant(), lambda o: lr_scheduler.ConstantLR(o, factor=1.0)),
        (Cosine(), lambda o: lr_scheduler.CosineAnnealingLR(o, UPDATES)),
        (Cosine(final=0.1), lambda o: lr_scheduler.CosineAnnealingLR(o, UPDATES, eta_min=0.1)),
        (Piecewise(), lambda o: lr_scheduler.MultiStepLR(o, [10, 15])),
        (
            Piecewise(milestones=[0.29, 0.9], decay=0.5),
            lambda o: lr_scheduler.MultiStepLR(o, [6, 18], gamma=0.5),
        ),
        (
            Constant(warmup=0.25),
            lambda o: warmed(o, lr_scheduler.ConstantLR(o, factor=1.0)),
        ),
        (
            Cosine(warmup=0.25),
            lambda o: warmed(o, lr_scheduler.CosineAnnealingLR(o, UPDATES - 5)),
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # of SequentialLR, about its own calls
def test_the_rates_are_those_of_pytorchs_schedulers(schedule, make):
    assert factors(schedule) == pytest.approx(of_pytorch(make), abs=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("num_updates", [1, 2, 7])
def test_a_rate_is_positive_and_never_above_the_one_that_is_given(name, num_updates):
    for warmup in (0.0, 0.5, 1.0):
        found = factors(SCHEDULES.make(name, warmup=warmup), num_updates)
        assert all(0 < factor <= 1 for factor in found), warmup


def test_a_training_takes_the_rate_of_every_update(make_student, images):
    schedule = Cosine(warmup=0.4)
    student = make_student()
    slow = list(student[0].parameters())
    optimizer = torch.optim.SGD(
        [{"params": slow, "lr": 0.01}, {"params": list(student[7].parameters())}], lr=0.02
    )
    trainer = make_trainer(student, images, optimizer=optimizer, schedule=schedule)
    for update in range(6):
        before = student[7].weight.detach().clone(), student[0].weight.detach().clone()
        trainer.step()
        rates = [group["lr"] for group in optimizer.param_groups]
        factor = schedule.factor(update, 6)
        assert rates == [0.01 * factor, 0.02 * factor]
        assert not torch.equal(student[7].weight, before[0])
        assert not torch.equal(student[0].weight, before[1])
    assert trainer.done


def test_the_constant_schedule_is_none_to_the_bit(make_student, images):
    students = []
    for schedule in (None, Constant()):
        trainer = make_trainer(make_student(), images, schedule=schedule)
        trainer.step(), trainer.step()
        students.append(trainer.student.state_dict())
    for name, value in students[0].items():
        assert torch.equal(students[1][name], value), name


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("constant", {"warmup": 1.5}, "warmup: 1.5 must be a number in"),
        ("cosine", {"final": -0.1}, "final: -0.1 must be a number in"),
        ("piecewise", {"milestones": [0.5, 0.5]}, r"milestones: \[0.5, 0.5\] must be a list of"),
        ("piecewise", {"milestones": [0.5, 1]}, "milestones: .* each above 0 and below 1"),
        ("piecewise", {"milestones": []}, "milestones"),
        ("piecewise", {"decay": 2.0}, "decay: 2.0 must be a number above 0 and at most 1"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(name, options, said):
    with pytest.raises(InputError, match=said):
        SCHEDULES.make(name, **options)
