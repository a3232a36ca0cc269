"""The global generators of torch: which are touched, on a machine with several GPUs."""

from contextlib import nullcontext

import pytest
import torch

from dfshield.seeds import torch_generators, torch_generators_kept


@pytest.fixture
def gpus(monkeypatch):
    """Two fake GPUs, the first of which is current; return what is forked and what is seeded."""
    forked, seeded = [], {}

    class Generator:
        def __init__(self, index):
            self.index = index

        def manual_seed(self, seed):
            seeded[self.index] = seed

    def fork_rng(devices):
        forked.append(list(devices))
        return nullcontext()

    monkeypatch.setattr(torch.random, "fork_rng", fork_rng)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "default_generators", (Generator(0), Generator(1)))
    return forked, seeded


@pytest.mark.parametrize(("device", "index"), [("cuda:1", 1), ("cuda", 0)])
def test_the_gpu_that_is_named_is_seeded_and_no_other(gpus, device, index):
    forked, seeded = gpus
    with torch_generators(7, torch.device(device)):
        pass
    assert forked == [[index]]
    assert seeded == {index: 7}


def test_no_gpu_is_woken_for_work_on_the_cpu(gpus):
    forked, seeded = gpus
    with torch_generators_kept(torch.device("cpu")), torch_generators(1, torch.device("cpu")):
        pass
    assert forked == [[], []]
    assert not seeded


def test_draws_of_the_cpu_go_on_as_if_there_had_been_none():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    with torch_generators(9, torch.device("cpu")):
        inside = torch.rand(4)
    assert torch.equal(torch.rand(4), expected)
    with torch_generators(9, torch.device("cpu")):
        assert torch.equal(torch.rand(4), inside)
