"""Images of a training on a GPU: those that take more than 40 % of its free memory stay off it."""

from types import SimpleNamespace

import pytest
import torch
from tiny_run import run_of

from dfshield.runs import GroupWorker, SilentMonitor
from dfshield.runs.work.training_images import training_images
from dfshield.storage import SurrogateDataset, TensorLayout, tensor_file
from dfshield.training import SingleWorker

GPU = torch.device("cuda")
LEAST_FREE = 2.5
"""Free memory in units of the images' size at which these take 40 % of it."""


class Noted:
    """The images of a run, of which each copy that is read whole is noted with its device."""

    def __init__(self, folder):
        self._dataset = SurrogateDataset.open(folder)
        self.manifest = self._dataset.manifest
        self.placed, self.read = self._dataset.placed, self._dataset.read
        self.devices = []

    def load(self, split, *, num_images, device):
        self.devices.append(str(device))
        return self._dataset.load(split, num_images=num_images)


class Pair(SingleWorker):
    """The second of two workers, of which the other does as it does."""

    rank, size = 1, 2

    def all_gather(self, value):
        return [value, value]


@pytest.fixture
def images(tiny):
    return Noted(run_of(tiny(keep=("teacher", "synthetic"))) / "synthetic")


def nbytes(images):
    count = images.placed("data", None)[-1][1].stop
    return TensorLayout(images.manifest, num_images=count).nbytes


def taken(images, monkeypatch, free, group):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (int(free), 2 * int(free)))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="one"))
    worker = GroupWorker(GPU, SilentMonitor(), group, lambda r: r, lambda m: None, lambda: False)
    return training_images(images, "data", worker=worker)


def test_what_fits_is_copied_there(images, monkeypatch):
    taken(images, monkeypatch, LEAST_FREE * nbytes(images) + 1, SingleWorker())
    assert images.devices == ["cuda"]


@pytest.mark.parametrize(("group", "copies"), [(SingleWorker(), 1), (Pair(), 2)])
def test_what_does_not_stays_in_main_memory_by_the_copies_of_all_workers(
    images, monkeypatch, group, copies
):
    tensors = taken(images, monkeypatch, copies * LEAST_FREE * nbytes(images) - 4, group)
    assert images.devices == []
    assert tensors.images.is_cpu


def test_nor_does_it_go_there_where_no_file_can_hold_it(images, monkeypatch, tmp_path):
    monkeypatch.setattr(tensor_file.tempfile, "tempdir", str(tmp_path / "nowhere"))
    taken(images, monkeypatch, LEAST_FREE * nbytes(images) - 4, SingleWorker())
    assert images.devices == ["cpu"]
