"""The compiled training against the plain one; `tests/test_compiled.py` runs it."""

import pytest
import torch
from frozen_digits import check_digits, surrogate, trained_teacher
from test_accelerated import assert_same, check_average, of_objective, trained
from test_odd_batchnorms import check_fast_passes

from conftest import images, make_student
from dfshield.attacks import PGD
from dfshield.engine.accelerated_model import AcceleratedModel
from dfshield.engine.acceleration import Acceleration
from dfshield.training import OBJECTIVES

__all__ = ["images", "make_student"]

pytestmark = pytest.mark.filterwarnings("error:.*could not be compiled")


@pytest.fixture(autouse=True)
def _compiled_anew():
    """Forget what was compiled: of many models in one process, torch compiles the first few."""
    torch.compiler.reset()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_compiled_training_is_the_plain_one(make_student, images, objective):
    changes = of_objective(objective)
    plain = trained(make_student(), images, **changes)
    fast = trained(make_student(), images, acceleration=Acceleration(compiled=True), **changes)
    assert_same(plain, fast, tolerance=1e-4)


def test_an_average_of_compiled_training_is_what_attacks_see(make_student, images):
    check_average(make_student(), images, Acceleration(compiled=True))


@pytest.mark.parametrize("size", [50, 32])  # whole batches, and one that is not compiled
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


@pytest.mark.parametrize(
    "kind", ["frozen", "frozen in the forward pass", "functional", "untracked", "used twice"]
)
def test_compiled_passes_are_ordinary_ones(kind):
    check_fast_passes(kind, Acceleration(compiled=True))


def test_compiled_bfloat16_passes_are_ordinary_ones():
    check_fast_passes("frozen", Acceleration("bfloat16", compiled=True))


@pytest.mark.parametrize(
    "precision", [pytest.param("float32", marks=pytest.mark.drill), "bfloat16"]
)
def test_digits_are_learnt_with_frozen_statistics_as_without(precision):
    teacher = trained_teacher()
    check_digits(teacher, surrogate(teacher), Acceleration(precision, compiled=True))
