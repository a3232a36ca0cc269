"""Tensors in a file without a name: equal to those loaded, and found by other processes."""

import json
import os
import subprocess
import sys

import pytest
import torch

from dfshield.storage import SurrogateDataset, TensorFile, TensorLayout, write_manifest, write_part

READ_BY_ANOTHER = """
import json, sys
from dfshield.storage import SurrogateDataset, TensorFile, TensorLayout
from dfshield.storage.tensor_file import TensorFileAddress

folder, pid, descriptor, *tokens = json.loads(sys.argv[1])
layout = TensorLayout(SurrogateDataset.open(folder).manifest, 13)
with TensorFile.create(layout) as own:
    for token in tokens:
        found = own.at(TensorFileAddress(pid, descriptor, bytes.fromhex(token), True))
        if found is None:
            print("none")
            continue
        tensors = found.tensors()
        found.close()
        print(tensors.images.double().sum().item(), tensors.labels.tolist())
        tensors.labels[0] += 10
"""


def filled(file, dataset, count):
    for part, rows in dataset.placed("data", count):
        file.write(rows, dataset.read(part))
    return file


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("count", [13, 24])
def test_it_holds_what_is_loaded(folder, make_manifest, make_arrays, dtype, count, tmp_path):
    manifest = make_manifest(image_dtype=dtype)
    write_manifest(folder, manifest)
    for part in manifest.parts:
        write_part(folder, manifest, part, make_arrays(manifest, part))
    dataset = SurrogateDataset.open(folder)
    expected = dataset.load(num_images=count)
    with TensorFile.create(TensorLayout(manifest, count)) as file:
        tensors = filled(file, dataset, count).tensors()
    for name in ("images", "labels", "teacher_logits"):
        found, wanted = getattr(tensors, name), getattr(expected, name)
        assert found.dtype == wanted.dtype
        assert torch.equal(found, wanted)
    sizes = [t.numel() * t.element_size() for t in vars(expected).values()]
    assert TensorLayout(manifest, count).nbytes == sum(sizes)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_other_processes_of_the_machine_find_it(complete, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    folder, manifest = complete
    dataset = SurrogateDataset.open(folder)
    with TensorFile.create(TensorLayout(manifest, 13)) as file:
        assert list((tmp_path / "tmp").iterdir()) == []
        tensors = filled(file, dataset, 13).tensors()
        pixels, labels = tensors.images.double().sum().item(), tensors.labels.tolist()
        address = file.address
        told = [str(folder), *address[:2], address.token.hex(), b"that of another!".hex()]
        done = subprocess.run(
            [sys.executable, "-c", READ_BY_ANOTHER, json.dumps(told)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.splitlines() == [f"{pixels} {labels}", "none"]
        assert tensors.labels[0] == labels[0] + 10  # the pages are the same
        assert file.at(file.address) is file
        other_process = file.address._replace(pid=os.getppid())
        assert file.at(other_process) is None
