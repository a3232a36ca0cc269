"""The compiled training against the plain one; `tests/test_compiled.py` runs it."""

import pytest
from test_accelerated import assert_same, trained

from conftest import images, make_student
from dfshield.acceleration import Acceleration

__all__ = ["images", "make_student"]

pytestmark = pytest.mark.filterwarnings("error:.*could not be compiled")


def test_compiled_training_is_the_plain_one(make_student, images):
    plain = trained(make_student(), images)
    fast = trained(make_student(), images, acceleration=Acceleration(compiled=True))
    assert_same(plain, fast, tolerance=1e-4)
