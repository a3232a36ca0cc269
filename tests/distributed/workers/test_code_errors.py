"""Errors of the code are known again; those that come of lost workers and GPUs are not."""

import pickle

import pytest
import ray
import torch
import torch.distributed as dist
from contract_tasks import UnpicklableError
from ray import cloudpickle

from dfshield.distributed.workers.code_errors import CodeError


def divide(number):
    return 1 / number


def caught(function, *arguments):
    with pytest.raises(Exception, match=r"\w") as raised:
        function(*arguments)
    return CodeError.of(raised.value)


def fail(error):
    raise error


def test_the_same_line_is_known_again_and_another_is_not():
    first, second = caught(divide, 0), caught(divide, 0)
    other = caught(lambda: 1 / 0)
    assert first.origin == second.origin
    assert first.origin != other.origin
    assert first.origin != caught(divide, "0").origin
    assert str(first) == "ZeroDivisionError: division by zero"


def test_the_message_may_differ():
    first, second = (caught(fail, OSError(f"port {port}")) for port in (1, 2))
    assert first.origin == second.origin
    assert first.reason != second.reason


@pytest.mark.parametrize(
    "error", [torch.AcceleratorError("CUDA error: unspecified"), ray.exceptions.RayError("gone")]
)
def test_what_comes_of_a_lost_gpu_or_worker_may_be_tried_again(error):
    assert caught(fail, error).origin is None


def test_what_a_collective_says_may_be_the_death_of_another_worker():
    assert caught(dist.all_reduce, torch.zeros(1)).origin is None


def test_it_travels_even_where_the_error_does_not():
    error = caught(fail, UnpicklableError("one\ntwo"))
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(UnpicklableError("one"))
    again = cloudpickle.loads(pickle.dumps(error))
    assert (again.reason, again.origin) == (error.reason, error.origin)
    assert str(again) == "UnpicklableError: one two"
