"""A model with frozen BatchNorm statistics is hardened as well as one without, on real digits."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from frozen_digits import check_digits, student_of, surrogate, trained_teacher

from dfshield.engine.acceleration import Acceleration

PATHS = {"plain": Acceleration(), "bfloat16": Acceleration("bfloat16")}


@pytest.fixture(scope="module")
def teacher():
    return trained_teacher()


@pytest.fixture(scope="module")
def data(teacher):
    return surrogate(teacher)


@pytest.mark.drill
@pytest.mark.slow
@pytest.mark.parametrize("path", ["plain", "bfloat16"])
def test_digits_are_learnt_with_frozen_statistics_as_without(teacher, data, path):
    check_digits(teacher, data, PATHS[path])


@pytest.mark.drill
@pytest.mark.slow
def test_two_workers_harden_the_frozen_one_as_one_does(teacher, data, tmp_path):
    script = Path(__file__).with_name("frozen_digits.py")
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True, timeout=500)
    alone = student_of(teacher, *data, frozen=True, acceleration=Acceleration()).state_dict()
    for rank in (0, 1):
        found = torch.load(tmp_path / f"student-{rank}.pt", weights_only=True)
        assert found.keys() == alone.keys()
        assert [name for name in alone if not torch.equal(found[name], alone[name])] == []
