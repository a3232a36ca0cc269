"""Which device a worker takes, that it is tried, and how long its memory is waited for."""

import os
from itertools import chain, repeat
from types import SimpleNamespace

import pytest
import torch

from dfshield.distributed.workers import device as device_module
from dfshield.distributed.workers.device import (
    index_of,
    limit_compilers,
    take_device,
    uuid_of,
    wait_for_memory,
)
from dfshield.errors import UnfitDeviceError
from dfshield.runs import Engine

CUDA = Engine(device="cuda", threads=3, torch="2")


@pytest.mark.parametrize(
    ("gpus", "visible", "kept", "index"),
    [
        (("5",), "5", False, 0),  # Ray has set what is visible
        (("5",), None, True, 5),
        (("5",), "4,5", True, 1),
        (("GPU-b",), "GPU-a,GPU-b", True, 1),
        (("GPU-b",), None, True, 0),
        ((), None, True, 0),
    ],
)
def test_a_worker_takes_the_gpu_that_ray_has_assigned(gpus, visible, kept, index):
    assert index_of(gpus, visible, kept=kept) == index


@pytest.fixture
def cuda(monkeypatch):
    """Two GPUs that only note what is done with them."""
    done = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: done.append(("set", str(device))))
    monkeypatch.setattr(
        torch.cuda,
        "set_per_process_memory_fraction",
        lambda share, device: done.append(("share", share)),
    )
    monkeypatch.setattr(torch, "ones", lambda *_, device: torch.zeros(1) + 1)
    monkeypatch.setattr(device_module, "own_gpus", lambda: ("1",))
    monkeypatch.setenv("RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("TORCHINDUCTOR_COMPILE_THREADS", raising=False)
    return done


def test_it_is_the_current_one_and_tried_within_its_share(cuda):
    assert take_device(CUDA, share=0.25) == torch.device("cuda", 1)
    assert cuda == [("set", "cuda:1"), ("share", 0.25)]
    assert os.environ["TORCHINDUCTOR_COMPILE_THREADS"] == "3"


def test_a_whole_gpu_has_no_limit(cuda):
    take_device(CUDA)
    assert cuda == [("set", "cuda:1")]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried\nto"),
        torch.AcceleratorError("CUDA error: all devices are busy"),
        RuntimeError("No CUDA GPUs are available"),
        AssertionError("Torch not compiled with CUDA enabled"),
    ],
)
def test_one_that_cannot_be_used_is_unfit(cuda, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(torch, "ones", fail)
    with pytest.raises(UnfitDeviceError, match="GPU 1 cannot be used now") as raised:
        take_device(CUDA)
    assert "\n" not in str(raised.value)


def test_a_cpu_is_taken_as_it_is(monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "7")
    device = take_device(Engine(device="cpu", threads=3, torch="2"))
    assert device == torch.device("cpu")
    assert uuid_of(device) == ""
    assert os.environ["TORCHINDUCTOR_COMPILE_THREADS"] == "7"  # the user's own
    wait_for_memory(device, look=None)


def test_so_many_compilers_as_threads(monkeypatch):
    monkeypatch.delenv("TORCHINDUCTOR_COMPILE_THREADS", raising=False)
    limit_compilers(Engine(device="cpu", threads=4, torch="2"))
    assert os.environ.pop("TORCHINDUCTOR_COMPILE_THREADS") == "4"


@pytest.mark.parametrize(
    ("free", "seconds"),
    [
        ([95], 0.0),  # nobody holds it
        ([20, 20, 50, 95], 0.6),  # it is being freed
        ([20, 50, *repeat(60, 30)], 2.4),  # somebody else goes on holding 40
        (chain(range(1, 89), repeat(89)), 17.4 + 2.0),  # slowly
        ([20 + 0.01 * n for n in range(500)], 30.0),  # without an end
    ],
)
def test_memory_is_waited_for_while_it_is_being_freed(free, seconds):
    now = SimpleNamespace(seconds=0.0)
    amounts = iter(free)

    def sleep(seconds):
        now.seconds += seconds

    wait_for_memory(
        torch.device("cuda", 0),
        look=lambda _: (next(amounts), 100),
        clock=lambda: now.seconds,
        sleep=sleep,
    )
    assert now.seconds == pytest.approx(seconds, abs=0.5)
