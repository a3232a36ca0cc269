"""The compiled inversion against the plain one; `tests/test_compiled.py` runs it."""

import pytest
from test_batched_inversion import (
    check_batches_in_one_pass,
    check_going_on,
    check_losses_against_the_plain_path,
)

from conftest import make_teacher, tiny_teacher
from dfshield.engine.acceleration import Acceleration

__all__ = ["make_teacher", "tiny_teacher"]

COMPILED = Acceleration(compiled=True)


@pytest.mark.drill
def test_losses_are_those_of_the_plain_path(tiny_teacher):
    check_losses_against_the_plain_path(tiny_teacher.requires_grad_(False), COMPILED)


@pytest.mark.drill
def test_a_batch_gets_in_a_shared_pass_what_it_gets_alone(tiny_teacher):
    check_batches_in_one_pass(tiny_teacher.requires_grad_(False), COMPILED)


def test_going_on_from_a_state_gives_the_same_bytes(tiny_teacher):
    check_going_on(tiny_teacher.requires_grad_(False), Acceleration("bfloat16", compiled=True))
