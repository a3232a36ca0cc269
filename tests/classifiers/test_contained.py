"""Modules and factories that set things for the whole process: it stays as it was."""

import itertools
import logging
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from dfshield.classifiers import answer_of, build
from dfshield.classifiers.contained import contained

NAMES = itertools.count()
MODULE = """
import logging, warnings
import numpy as np
import torch
from torch import nn

{at_import}


class Net(nn.Sequential):
    def forward(self, x):
        {in_forward}
        return super().forward(x)


def make():
    {in_factory}
    return Net(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
"""
STATEMENTS = {
    "gradients off": "torch.set_grad_enabled(False)",
    "inference mode": "guard = torch.inference_mode(); guard.__enter__()",
    "device": "torch.set_default_device('meta')",
    "seed": "torch.manual_seed(3); torch.rand(5)",
    "warnings": "warnings.simplefilter('error')",
    "deterministic": "torch.use_deterministic_algorithms(True)",
    "threads": "torch.set_num_threads(3)",
    "autocast": "guard = torch.autocast('cpu', torch.bfloat16); guard.__enter__()",
    "anomalies": "torch.autograd.set_detect_anomaly(True)",
    "matrix products": "torch.set_float32_matmul_precision('medium')",
    "numpy": "np.seterr(all='raise')",
    "everything off": "torch.set_grad_enabled(False); warnings.simplefilter('error')",
}


@pytest.fixture
def factory(tmp_path, monkeypatch):
    """A function that writes a module which does these things, and returns its source."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(at_import="", in_factory="", in_forward=""):
        name = f"unruly{next(NAMES)}"
        text = MODULE.format(
            at_import=at_import, in_factory=in_factory or "pass", in_forward=in_forward or "pass"
        )
        (tmp_path / f"{name}.py").write_text(text)
        return f"python:{name}:make"

    return write


def state():
    return {
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "generator": torch.get_rng_state().tolist(),
        "deterministic": torch.get_deterministic_debug_mode(),
        "threads": torch.get_num_threads(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "autocast to": torch.get_autocast_dtype("cpu"),
        "anomalies": torch.is_anomaly_enabled(),
        "products": torch.get_float32_matmul_precision(),
        "numpy": np.geterr(),
        "warnings": list(warnings.filters),
    }


def made(source):
    return build(source, input_shape=(1, 8, 8), num_classes=10)


def can_be_trained(classifier):
    classifier.train()(torch.rand(4, 1, 8, 8)).sum().backward()
    return all(weight.grad is not None for weight in classifier.parameters())


@pytest.mark.parametrize("place", ["at_import", "in_factory"])
@pytest.mark.parametrize("kind", STATEMENTS)
def test_what_a_module_sets_ends_with_it(factory, kind, place):
    before = state()
    plain = made(factory())
    source = factory(**{place: STATEMENTS[kind]})
    if (kind, place) == ("device", "in_factory"):
        with pytest.raises(ValueError, match="on device meta"):
            made(source)
        assert state() == before
        return
    first, second = made(source), made(source)
    assert state() == before
    assert can_be_trained(first)
    assert can_be_trained(second)
    if (kind, place) != ("seed", "in_factory"):
        # Fresh weights come from our seed, be it the first time that the module is imported.
        assert torch.equal(first.network[0].weight, plain.network[0].weight)
    assert torch.equal(first.network[0].weight, second.network[0].weight)


def test_autocast_that_a_module_does_not_leave_keeps_no_old_weights(factory):
    made(factory(at_import=STATEMENTS["autocast"]))
    weight = torch.nn.Parameter(torch.ones(2, 2))
    for value in (1.0, 3.0):
        with torch.autocast("cpu", torch.bfloat16):
            product = torch.ones(1, 2) @ weight
        assert product.tolist() == [[2 * value] * 2]
        with torch.no_grad():
            weight.fill_(3.0)


def test_the_default_type_of_a_module_is_its_factory_s_every_time(factory):
    source = factory(at_import="torch.set_default_dtype(torch.float64)")
    for _ in range(2):
        assert made(source).network[0].weight.dtype == torch.float64
        assert torch.get_default_dtype() == torch.float32
    assert made(factory()).network[0].weight.dtype == torch.float32


def test_a_factory_under_inference_mode_gives_a_network_that_trains(factory):
    source = factory(at_import="factory = torch.inference_mode()")
    module = source.split(":")[1]
    made(source)
    sys.modules[module].make = torch.inference_mode()(sys.modules[module].make)
    classifier = made(source)
    assert not any(t.is_inference() for t in classifier.state_dict().values())
    assert can_be_trained(classifier)


def test_a_network_that_switches_gradients_off_does_so_for_itself(factory):
    classifier = made(factory(in_forward="torch.set_grad_enabled(False)"))
    assert not classifier(torch.zeros(1, 1, 8, 8)).requires_grad
    assert torch.is_grad_enabled()
    with torch.no_grad():
        answer_of(classifier.network, torch.zeros(1, 1, 8, 8))
        assert not torch.is_grad_enabled()


def test_it_is_restored_after_an_error_and_in_any_mode_of_the_caller(factory):
    before = state()
    with pytest.raises(ValueError, match="cannot import"):
        made(factory(at_import="torch.set_grad_enabled(False); raise OSError('no')"))
    assert state() == before
    with torch.inference_mode():
        classifier = made(factory())
        assert torch.is_inference_mode_enabled()
    assert can_be_trained(classifier)
    with torch.no_grad(), contained():
        assert nn.Linear(1, 1)(torch.ones(1)).requires_grad


def test_logging_is_the_user_s_to_set(factory):
    root = logging.getLogger()
    before = list(root.handlers)
    made(factory(at_import="logging.getLogger().addHandler(logging.NullHandler())"))
    assert len(root.handlers) == len(before) + 1
    root.handlers[:] = before
