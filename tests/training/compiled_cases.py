"""The compiled training against the plain one; `tests/test_compiled.py` runs it."""

from functools import partial

import pytest
import torch
from frozen_digits import check_digits, trained_teacher
from frozen_digits import surrogate as surrogate_digits
from test_accelerated import assert_same, check_average, of_objective, trained
from test_odd_batchnorms import check_fast_passes
from test_trial_ways import batch, make, surrogate
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from conftest import images, make_student
from dfshield.attacks import PGD, frozen
from dfshield.engine.accelerated_model import AcceleratedModel
from dfshield.engine.acceleration import Acceleration
from dfshield.engine.compiled_in_time import CompiledInTime
from dfshield.engine.trial import Rung, run_trial
from dfshield.training import OBJECTIVES
from dfshield.training.accelerated import AcceleratedStudent
from dfshield.training.trial import training_ways

__all__ = ["batch", "images", "make", "make_student", "surrogate"]

ODD_KINDS = ("frozen", "frozen in the forward pass", "functional", "untracked", "used twice")


@pytest.fixture
def compilations(monkeypatch):
    """Count compilations, by a backend that takes no time."""
    counter = CompileCounterWithBackend("eager")
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counter))
    torch.compiler.reset()
    return counter


def attacked_by(model, images):
    """Return an attack on a model's compiled passes, and the gradient of one in train mode."""
    student = AcceleratedStudent(
        model, image_shape=(1, 6, 6), full_size=8, acceleration=Acceleration(compiled=True)
    )
    adversarial = PGD(eps=0.5, norm="l2", num_steps=2)(
        student.eval(), images[:8], torch.arange(8) % 4, seed=0
    )
    logits, _ = student.train_pass(images[:8])
    return adversarial, torch.autograd.grad(logits.square().sum(), model[0].weight)[0]


def test_a_dozen_models_of_one_process_are_compiled_once_and_alike(
    make_student, images, compilations
):
    first = attacked_by(make_student(), images)
    needed = compilations.frame_count
    assert needed > 0
    for seed in (*range(1, 11), 0):
        last = attacked_by(make_student(seed), images)
    assert compilations.frame_count == needed
    assert all(map(torch.equal, first, last))


def test_more_kinds_of_models_than_the_compiler_keeps_are_all_compiled(images, compilations):
    for width in range(2, 6):
        network = nn.Sequential(
            nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.Flatten(), nn.Linear(16 * width, 4)
        )
        before = compilations.frame_count
        with torch._dynamo.config.patch(recompile_limit=2):
            attacked_by(network, images)
        assert compilations.frame_count > before


@pytest.mark.parametrize(
    "objective",
    [
        "soft-label",
        *(pytest.param(n, marks=pytest.mark.drill) for n in OBJECTIVES if n != "soft-label"),
    ],
)
def test_compiled_training_is_the_plain_one(make_student, images, objective):
    changes = of_objective(objective)
    plain = trained(make_student(), images, **changes)
    fast = trained(make_student(), images, acceleration=Acceleration(compiled=True), **changes)
    assert_same(plain, fast, tolerance=1e-4)


def test_whole_batches_in_one_pass_are_compiled_and_others_one_by_one(
    make_student, images, compilations
):
    model = make_student()
    student = AcceleratedStudent(
        model,
        image_shape=(1, 6, 6),
        full_size=8,
        together=3,
        acceleration=Acceleration(compiled=True),
    ).eval()
    needed, compiled, sizes = compilations.frame_count, student._eval_pass, []
    student._eval_pass = lambda batch: (sizes.append(len(batch)), compiled(batch))[1]
    model.eval()
    with frozen(student):
        for size in (24, 16, 8, 12):
            x = images[:size].clone().requires_grad_()
            pair = [torch.autograd.grad(m(x).square().sum(), [x])[0] for m in (student, model)]
            torch.testing.assert_close(*pair)
    assert sizes == [24, 8, 8, 8]
    assert compilations.frame_count == needed


@pytest.mark.drill
def test_compiled_mini_batches_attacked_together_are_attacked_as_alone(make_student, images):
    plain = trained(make_student(), images)
    fast = trained(
        make_student(), images, acceleration=Acceleration(compiled=True), batches_per_pass=2
    )
    assert_same(plain, fast, tolerance=1e-4)


@pytest.mark.drill
def test_an_average_of_compiled_training_is_what_attacks_see(make_student, images):
    check_average(make_student(), images, Acceleration(compiled=True))


# Whole batches, and one that is not compiled.
@pytest.mark.parametrize("size", [50, pytest.param(32, marks=pytest.mark.drill)])
def test_a_compiled_attack_is_the_plain_one(make_student, images, size):
    model = make_student().eval()
    fast = AcceleratedModel(
        model, image_shape=(1, 6, 6), full_size=50, acceleration=Acceleration(compiled=True)
    )
    attack = PGD(eps=0.5, norm="l2", num_steps=5)
    labels = torch.arange(size) % 4
    plain = attack(model, images[:size], labels, seed=0)
    torch.testing.assert_close(
        attack(fast, images[:size], labels, seed=0), plain, rtol=1e-4, atol=1e-4
    )


def in_time(model, **after):
    return CompiledInTime(
        model,
        image_shape=(1, 6, 6),
        acceleration=Acceleration(compiled=True),
        after={True: after.get("graded", 0), False: after.get("other", 0)},
    )


def test_an_attack_compiled_for_any_number_of_images_is_the_plain_one(make_student, images):
    model = make_student().eval()
    with torch.no_grad():
        labels = model(images).argmax(1)
    labels[::3] = (labels[::3] + 1) % 4  # wrong as they are: PGD leaves them alone
    attack = PGD(eps=0.5, norm="l2", num_steps=5)
    fast = in_time(model, other=10**9)
    for size in (50, 31):
        found, plain = (attack(m, images[:size], labels[:size], seed=0) for m in (fast, model))
        torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-4)


def test_passes_are_compiled_when_there_have_been_many_and_once_for_all_numbers(
    make_student, images, compilations
):
    model = make_student().eval()
    fast, passed = in_time(model, graded=12, other=6), []
    model.register_forward_hook(lambda *_: passed.append(1))

    def plain(size, graded):
        before = len(passed)
        with torch.set_grad_enabled(graded):
            fast(images[:size].clone().requires_grad_(graded))
        return len(passed) > before

    for again in (False, True):
        fast.begin()
        assert [plain(size, True) for size in (8, 8, 8, 5, 3, 1)] == [
            True,
            True,
            *3 * [False],
            True,
        ]
        assert [plain(size, False) for size in (6, 6, 2)] == [True, False, False]
        if not again:
            needed = compilations.frame_count
            assert needed > 0
    assert compilations.frame_count == needed


@pytest.mark.drill
@pytest.mark.parametrize("kind", ODD_KINDS)
def test_compiled_passes_are_ordinary_ones(kind):
    check_fast_passes(kind, Acceleration(compiled=True))


@pytest.mark.drill
def test_compiled_bfloat16_passes_are_ordinary_ones():
    check_fast_passes("frozen", Acceleration("bfloat16", compiled=True))


@pytest.mark.drill
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_digits_are_learnt_with_frozen_statistics_as_without(precision):
    teacher = trained_teacher()
    check_digits(teacher, surrogate_digits(teacher), Acceleration(precision, compiled=True))


@pytest.mark.drill
def test_the_trial_of_the_compiled_training_finds_no_wrong_number(make, batch):
    ways = training_ways(make, batch)
    rungs = [Rung.of(Acceleration(compiled=True), ways.faster)]
    (report,) = run_trial(ways, rungs, iterations=1e9, most_steps=4, long=0.0).rungs
    assert report.seconds_to_begin > 0
    # How fast it is depends on the machine; that it is right does not.
    assert report.seconds > 0
    assert report.reason == "" or "times as fast" in report.reason
