"""Tensors in a file without a name: as they are loaded, found by other processes, gone at the end."""

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
folder, count, *address = json.loads(sys.argv[1])
address[2] = bytes.fromhex(address[2])
layout = TensorLayout(SurrogateDataset.open(folder).manifest, count)
with TensorFile.create(layout) as own:
    found = own.at(TensorFileAddress(*address))
    if found is not None:
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


def seen_by_another(folder, address, token=None):
    told = [str(folder), 13, *address[:2], (token or address.token).hex(), True]
    done = subprocess.run(
        [sys.executable, "-c", READ_BY_ANOTHER, json.dumps(told)],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


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
        assert seen_by_another(folder.local, file.address) == f"{pixels} {labels}"
        assert tensors.labels[0] == labels[0] + 10  # the pages are the same
        assert seen_by_another(folder.local, file.address, token=b"another's token!") == ""
        assert file.at(file.address) is file
        other_process = file.address._replace(pid=os.getppid())
        assert file.at(other_process) is None
