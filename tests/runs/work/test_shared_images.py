"""Images of a training: one copy for the workers of a machine, larger than memory, equal bytes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import wide_images
from tiny_run import contents
from wide_images import IMAGES_BYTES, PART, ROOM, SIZES

from dfshield.runs import GroupWorker, SilentMonitor
from dfshield.runs.work.training_images import training_images
from dfshield.storage import (
    Folder,
    PartError,
    SurrogateDataset,
    SurrogateTables,
    part_table,
    tensor_file,
)
from dfshield.training import SingleWorker

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="needs /proc"),
]


class Heard(SilentMonitor):
    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wide")
    (folder / "tmp").mkdir()
    wide_images.make_inputs(folder)
    return folder


@pytest.fixture(scope="module")
def from_memory(inputs):
    """The student of one worker whose images are in memory, since no file has room for them."""
    monitor = Heard()
    with pytest.MonkeyPatch.context() as patch:
        full = shutil.disk_usage(inputs)._replace(free=0)
        patch.setattr(tensor_file.shutil, "disk_usage", lambda _: full)
        wide_images.train(inputs, "student-memory", SingleWorker(), monitor)
    assert len(monitor.said) == 2  # of the data and of the hold-out
    assert "No room for 0.19 GiB of images in the temporary folder" in monitor.said[0]
    return contents(inputs / "student-memory")


@pytest.fixture(scope="module")
def found(inputs):
    """What the workers of each size found, by rank, under a limit of their memory."""
    command = [sys.executable, wide_images.__file__, str(inputs)]
    subprocess.run(
        command, check=True, timeout=300, env=os.environ | {"TMPDIR": str(inputs / "tmp")}
    )
    return {
        size: [
            json.loads((inputs / f"found-{size}-{rank}.json").read_text()) for rank in range(size)
        ]
        for size in SIZES
    }


@pytest.mark.parametrize("size", SIZES)
def test_more_images_than_memory_give_the_student_of_those_in_memory(
    inputs, found, from_memory, size
):
    assert contents(inputs / f"student-{size}") == from_memory
    for worker in found[size]:
        assert not worker["fits"]  # else the limit would be none
        assert worker["grown"] < ROOM < IMAGES_BYTES / 2
    left = [file.stat().st_size for file in (inputs / "tmp").rglob("*") if file.is_file()]
    assert sum(left) < IMAGES_BYTES / 100


def test_two_workers_of_a_machine_hold_one_copy_and_read_every_part_once(found):
    first, second = found[2]
    assert first["read"].keys() & second["read"].keys() == set()
    assert len(first["read"]) > 10 < len(second["read"])
    times = {**first["read"], **second["read"]}
    assert len(times) == -(-wide_images.NUM_IMAGES // PART) + 1
    assert set(times.values()) == {1}
    # Alone, what is mapped counts as unshared.
    (alone,) = found[1]
    for worker in (first, second):
        assert worker["unshared"] < alone["unshared"] - IMAGES_BYTES / 2


def loaded(reader, monitor=None):
    worker = GroupWorker(
        device=torch.device("cpu"),
        monitor=monitor or SilentMonitor(),
        group=SingleWorker(),
        get=lambda ref: ref,
        report=lambda _: None,
        stop_requested=lambda: False,
    )
    return training_images(reader, "data", num_images=PART + 1, worker=worker)


def equal(tensors, others):
    names = ("images", "labels", "teacher_logits")
    return all(torch.equal(getattr(tensors, n), getattr(others, n)) for n in names)


def test_images_of_the_object_store_are_mapped_too(inputs):
    dataset = SurrogateDataset.open(inputs / "data")
    tables = SurrogateTables(
        dataset.manifest, lambda part: part_table(dataset.manifest, part, dataset.read(part))
    )
    assert equal(loaded(tables), dataset.load(num_images=PART + 1))


def test_a_disk_that_fills_up_leaves_the_images_in_memory(inputs, small_disk, monkeypatch):
    dataset, monitor = SurrogateDataset.open(inputs / "data"), Heard()
    monkeypatch.setattr(tensor_file.tempfile, "tempdir", str(small_disk))
    plenty = shutil.disk_usage(inputs)
    monkeypatch.setattr(tensor_file.shutil, "disk_usage", lambda _: plenty)
    assert equal(loaded(dataset, monitor), dataset.load(num_images=PART + 1))
    assert len(monitor.said) == 1


def test_a_folder_that_cannot_be_written_leaves_the_images_in_memory(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(tensor_file.tempfile, "tempdir", str(tmp_path / "nowhere"))
    dataset, monitor = SurrogateDataset.open(inputs / "data"), Heard()
    assert equal(loaded(dataset, monitor), dataset.load(num_images=PART + 1))
    assert len(monitor.said) == 1


def test_a_broken_part_is_refused(inputs, tmp_path):
    shutil.copytree(inputs / "data", tmp_path / "data")
    folder = Folder.at(tmp_path / "data")
    dataset = SurrogateDataset.open(folder)
    folder.delete(dataset.manifest.parts[1].path)
    with pytest.raises(PartError, match=r"part-0001\.parquet: missing"):
        loaded(dataset)
