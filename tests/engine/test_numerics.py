"""Precision, determinism and identity of GPUs, by what torch is set to and by fake GPUs."""

import os
import warnings
from types import SimpleNamespace

import pytest
import torch

from dfshield.engine.numerics import (
    Accelerator,
    accelerator_of,
    nondeterministic_operations,
)
from dfshield.errors import OtherDeviceError
from dfshield.runs import Engine

A100 = Accelerator("NVIDIA A100-SXM4-40GB", "8.0", 91002)
H100 = Accelerator("NVIDIA H100 80GB HBM3", "9.0", 91002)


def engine_of(device="cuda", **fields):
    return Engine(device=device, threads=torch.get_num_threads(), torch="2", **fields)


@pytest.fixture(autouse=True)
def _torch_as_it_was():
    deterministic = torch.are_deterministic_algorithms_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    yield
    engine_of("cpu").bind()
    torch.use_deterministic_algorithms(deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = fill


@pytest.fixture
def gpu(monkeypatch):
    """Return a function that puts a fake GPU into this machine."""

    def put(accelerator):
        major, minor = map(int, accelerator.capability.split("."))
        found = SimpleNamespace(name=accelerator.name, major=major, minor=minor)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: found)
        monkeypatch.setattr(torch.backends.cudnn, "version", lambda: accelerator.cudnn)

    return put


def products():
    backends = torch.backends
    return {
        backends.cuda.matmul.fp32_precision,
        backends.cudnn.conv.fp32_precision,
        backends.cudnn.rnn.fp32_precision,
    }


def mess():
    """What a network's module may have set for the whole process."""
    torch.backends.fp32_precision = "tf32"
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.conv.fp32_precision = "tf32"


@pytest.mark.parametrize("before", [lambda: None, mess])
def test_float32_is_ieee_float32_whatever_was_set_before(before):
    before()
    engine_of("cpu").bind()
    assert products() == {"ieee"}
    assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
    assert torch.backends.mkldnn.conv.fp32_precision == "ieee"
    # The older interface, which other libraries read, says the same instead of raising.
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_tf32_is_what_one_asks_for_and_of_gpus_alone():
    engine = engine_of("cpu", precision="tf32")
    engine.bind()
    assert products() == {"tf32"}
    assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
    assert engine.acceleration.plain
    engine_of("cpu", precision="bfloat16").bind()
    assert products() == {"ieee"}


def test_gpus_compute_deterministically(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    engine_of("cpu").bind()
    assert not torch.are_deterministic_algorithms_enabled()
    engine_of().bind()
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert not torch.utils.deterministic.fill_uninitialized_memory
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.benchmark
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_operations_that_are_not_deterministic_are_reported_once():
    found = []

    def pool_backward():
        text = (
            "adaptive_avg_pool2d_backward_cuda does not have a deterministic implementation, but "
            "you set 'torch.use_deterministic_algorithms(True, warn_only=True)'"
        )
        warnings.warn(text, stacklevel=1)

    def work():
        with nondeterministic_operations(found.append):
            for _ in range(3):
                pool_backward()
            warnings.warn("another matter", stacklevel=1)

    with pytest.warns(UserWarning, match="another matter") as shown:
        work()
    assert found == ["adaptive_avg_pool2d_backward_cuda"]
    assert len(shown) == 1


def test_a_gpu_is_known_by_model_capability_and_cudnn(gpu):
    gpu(H100)
    assert accelerator_of(torch.device("cuda")) == H100
    assert accelerator_of(torch.device("cpu")) is None
    engine = engine_of(accelerator=H100)
    assert Engine.from_json(engine.to_json()) == engine
    engine.require_accelerator()


def test_a_gpu_of_another_model_is_refused_in_one_line(gpu):
    gpu(H100)
    engine = engine_of(accelerator=A100)
    with pytest.raises(OtherDeviceError, match=r"H100 80GB HBM3 .* begun on NVIDIA A100"):
        engine.require_accelerator()
    gpu(Accelerator(A100.name, A100.capability, 90100))
    with pytest.raises(OtherDeviceError, match="cuDNN 90100"):
        engine.require_accelerator()


def test_engines_of_cpus_stand_in_manifests_as_ever():
    assert engine_of("cpu").to_json() == {
        "device": "cpu",
        "threads": torch.get_num_threads(),
        "torch": "2",
        "precision": "float32",
        "compiled": False,
        "batches_per_pass": 1,
    }


def test_bfloat16_is_for_gpus_that_multiply_in_it():
    assert A100.has_tensor_cores
    assert not Accelerator("Tesla T4", "7.5", 91002).has_tensor_cores
