"""The fast path of the training: against the plain one, and mini-batches attacked together."""

from copy import deepcopy

import pytest
import torch

from dfshield.attacks import frozen
from dfshield.engine.acceleration import Acceleration
from dfshield.training import (
    OBJECTIVES,
    AdversarialTrainer,
    DeferredBatchNorm,
    InnerMaximization,
    SoftLabelObjective,
)
from dfshield.training.accelerated import AcceleratedStudent
from dfshield.training.augmentations import Cutmix, Flip
from dfshield.training.averages import Ema


def trainer_of(student, images, **changes):
    arguments = {
        "images": images,
        "labels": torch.arange(len(images)) % 4,
        "teacher_logits": torch.randn(len(images), 4, generator=torch.Generator().manual_seed(9)),
        "optimizer": torch.optim.SGD(student.parameters(), lr=0.02, momentum=0.9),
        "objective": SoftLabelObjective(),
        # l_2: its steps are continuous, so the last bit of a gradient cannot flip a sign.
        "inner": InnerMaximization(eps=0.5, norm="l2", num_steps=3),
        "epochs": 1,
        "batch_size": 8,
        "num_batches": 3,
        "tau": 0.0,
        "seed": 5,
    }
    return AdversarialTrainer(student, **(arguments | changes))


def trained(student, images, **changes):
    trainer = trainer_of(student, images, **changes)
    records = []
    while not trainer.done:
        records.append(trainer.step())
    return trainer.student.state_dict(), records


def assert_same(one, other, *, tolerance):
    for name, value in one[0].items():
        torch.testing.assert_close(
            other[0][name], value, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )
    for left, right in zip(one[1], other[1], strict=True):
        assert right.loss == pytest.approx(left.loss, rel=10 * tolerance)


def of_objective(name):
    """Return the arguments of a training with an objective and its own inner maximisation."""
    # A weight of 6 makes updates so large that what rounding began grows from one to the next.
    gentle = {"beta": 1.0} if "beta" in OBJECTIVES.defaults(name) else {}
    objective = OBJECTIVES.make(name, **gentle)
    loss, start = objective.inner_loss, objective.inner_start
    inner = InnerMaximization(eps=0.5, norm="l2", num_steps=3, loss=loss, start=start)
    return {"objective": objective, "inner": inner}


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_mini_batches_attacked_together_are_attacked_as_alone(make_student, images, norm):
    inner = InnerMaximization(eps=0.1, norm=norm, num_steps=3)
    alone = trained(make_student().double(), images.double(), inner=inner)
    for together in (2, 3, 20):
        got = trained(
            make_student().double(), images.double(), inner=inner, batches_per_pass=together
        )
        assert_same(alone, got, tolerance=1e-9)


def test_statistics_are_those_that_deferred_batchnorm_records(make_student, images):
    student = make_student().train()
    before = deepcopy(student.state_dict())
    deferred = DeferredBatchNorm(student)
    with deferred.recording():
        logits = student(images[:8])
    expected = deferred.take()
    fast = AcceleratedStudent(
        student,
        image_shape=tuple(images.shape[1:]),
        full_size=8,
        acceleration=Acceleration("bfloat16"),
    )
    fast._acceleration = Acceleration()
    got, records = fast.train_pass(images[:8])
    assert records.layers == expected.layers
    torch.testing.assert_close(records.statistics, expected.statistics)
    torch.testing.assert_close(got, logits)
    for name, value in before.items():
        assert torch.equal(student.state_dict()[name], value), name


class Wilful(torch.nn.BatchNorm2d):
    """Normalises in a way of its own, which no fast path may replace."""

    def forward(self, features):
        return 2 * super().forward(features)


def test_batchnorm_of_another_kind_is_trained_on_the_plain_path(make_student, images):
    students = []
    for _ in range(2):
        student = make_student()
        next(m for m in student.modules() if type(m) is torch.nn.BatchNorm2d).__class__ = Wilful
        students.append(student)
    plain = trained(students[0], images)
    with pytest.warns(UserWarning, match="is a Wilful, which normalises in a way of its own"):
        other = trained(students[1], images, acceleration=Acceleration("bfloat16"))
    assert_same(plain, other, tolerance=0)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_mini_batches_of_every_objective_are_attacked_together(make_student, images, objective):
    changes = of_objective(objective)
    alone, together = (
        trained(make_student().double(), images.double(), batches_per_pass=n, **changes)
        for n in (1, 2)
    )
    assert_same(alone, together, tolerance=1e-9)


INGREDIENTS = {"augmentations": [Flip(), Cutmix()], "weight_perturbation": 0.01}


def test_mini_batches_with_all_ingredients_are_attacked_together(make_student, images):
    teacher = make_student(seed=3).double()
    alone, together = (
        trained(
            make_student().double(),
            images.double(),
            batches_per_pass=n,
            teacher=teacher,
            **INGREDIENTS,
        )
        for n in (1, 2)
    )
    assert_same(alone, together, tolerance=1e-9)


@pytest.mark.parametrize(
    ("seed", "objective", "ingredients"),
    [
        (1, "soft-label", {}),
        (2, "soft-label", {}),
        (1, "soft-label", INGREDIENTS),
        *((0, name, {}) for name in OBJECTIVES),
    ],
)
def test_bfloat16_training_goes_where_float32_goes(
    make_student, images, seed, objective, ingredients
):
    start = make_student(seed=seed).state_dict()
    # One mini-batch an update: GradRefine's vote can turn on the last bit of a gradient.
    changes = {"epochs": 2, "num_batches": 1, **of_objective(objective), **ingredients}
    changes["teacher"] = make_student(seed=3)
    plain, _ = trained(make_student(seed=seed), images, **changes)
    fast, records = trained(
        make_student(seed=seed), images, acceleration=Acceleration("bfloat16"), **changes
    )
    moved = [
        torch.cat([(end[k] - start[k]).flatten() for k in start if k.endswith("weight")])
        for end in (plain, fast)
    ]
    # Rounding of three digits adds up over 14 updates, but not in one direction.
    assert torch.cosine_similarity(*moved, dim=0) > 0.97
    assert all(value.dtype != torch.bfloat16 for value in fast.values())
    assert all(0 <= record.agreement_rate <= 1 for record in records)


def test_a_trainer_goes_on_from_the_state_of_another(make_student, images):
    changes = {"acceleration": Acceleration("bfloat16"), "epochs": 2, "batches_per_pass": 2}
    whole, _ = trained(make_student(), images, **changes)
    first = trainer_of(make_student(), images, **changes)
    first.step()
    state = deepcopy(first.state_dict())
    second = trainer_of(make_student(), images, **changes)
    second.load_state_dict(state)
    while not second.done:
        second.step()
    for name, value in whole.items():
        assert torch.equal(second.student.state_dict()[name], value), name


def check_average(student, images, acceleration):
    """Attacks see the average where the student is it, and afterwards the student again."""
    trainer = trainer_of(
        student, images, acceleration=acceleration, average=Ema(decay=0.95), epochs=4
    )
    while not trainer.done:
        trainer.step()

    def pair():
        with frozen(trainer.attacked), frozen(student), torch.no_grad():
            return trainer.attacked(images[:8]), student(images[:8])

    with trainer.averaged():
        seen, averaged = pair()
    seen_after, last = pair()
    assert (seen - averaged).norm() < 0.3 * (seen - last).norm()
    assert (seen_after - last).norm() < 0.3 * (seen_after - averaged).norm()


def test_the_average_is_what_attacks_see(make_student, images):
    check_average(make_student(), images, Acceleration("bfloat16"))
