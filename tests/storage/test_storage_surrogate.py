"""The reader of a surrogate data set, and verify."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from dfshield.errors import InputError
from dfshield.storage import (
    Folder,
    PartError,
    SurrogateDataset,
    plan_parts,
    verify,
    write_manifest,
    write_part,
)


def in_one(manifest, split, make_arrays):
    arrays = [make_arrays(manifest, part) for part in manifest.split(split)]
    return (
        np.concatenate([a.images for a in arrays]),
        np.concatenate([a.labels for a in arrays]),
        np.concatenate([a.teacher_logits for a in arrays]),
    )


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize(("split", "count"), [("data", None), ("data", 13), ("holdout", None)])
def test_load(folder, make_manifest, make_arrays, dtype, split, count):
    manifest = make_manifest(image_dtype=dtype)
    write_manifest(folder, manifest)
    for part in manifest.parts:
        write_part(folder, manifest, part, make_arrays(manifest, part))
    loaded = SurrogateDataset.open(folder.local).load(split, num_images=count)
    expected = in_one(manifest, split, make_arrays)
    assert len(loaded) == (count or len(expected[0]))
    assert loaded.images.dtype == getattr(torch, dtype)
    for found, wanted in zip(dataclasses.astuple(loaded), expected, strict=True):
        np.testing.assert_array_equal(found.numpy(), wanted[:count])


def test_only_the_needed_parts_are_read(complete):
    folder, manifest = complete
    folder.delete(manifest.split("data")[-1].path)
    data = SurrogateDataset.open(folder)
    assert len(data.load(num_images=16)) == 16
    with pytest.raises(PartError, match="missing"):
        data.load(num_images=17)
    with pytest.raises(InputError, match="25 images of 'data' wanted, but 24 are planned"):
        data.load(num_images=25)
    with pytest.raises(InputError, match="wanted"):
        data.load(num_images=10**12)


def test_a_tampered_part_is_not_loaded(complete):
    folder, manifest = complete
    path = manifest.split("data")[1].path
    data = bytearray(folder.read_bytes(path))
    data[len(data) // 4] ^= 4
    folder.write_bytes(path, bytes(data))
    with pytest.raises(PartError, match="part-0001"):
        SurrogateDataset.open(folder).load()


def test_problems_and_missing(complete):
    folder, manifest = complete
    data = SurrogateDataset.open(folder)
    assert data.problems() == {}
    assert data.missing() == []
    first, second, third = manifest.split("data")
    folder.delete(first.path)
    folder.write_bytes(third.path, b"PAR1")
    (held,) = manifest.split("holdout")
    folder.delete(held.path)
    assert data.missing() == [first, held]
    assert data.missing("holdout") == [held]
    assert list(data.problems()) == [first, third, held]
    assert list(data.problems("data")) == [first, third]
    assert second not in data.problems()


def test_growth_keeps_what_exists(complete, make_arrays):
    folder, manifest = complete
    sizes = {"batch_size": 4, "part_size": 8, "shard_size": 16}
    parts = plan_parts(manifest.parts, split="data", num_images=36, **sizes)
    grown = manifest.model_copy(update={"parts": parts + manifest.split("holdout")})
    write_manifest(folder, grown)
    data = SurrogateDataset.open(folder)
    before = data.load(num_images=24)
    assert data.missing() == list(parts[3:])
    for part in data.missing():
        write_part(folder, grown, part, make_arrays(grown, part))
    assert torch.equal(data.load().images[:24], before.images)
    assert verify(folder).ok


def test_verify(complete):
    folder, manifest = complete
    report = verify(folder.local)
    assert report.ok
    assert report.num_images == report.num_valid_images == 29
    folder.delete(manifest.parts[0].path)
    folder.write_bytes(manifest.parts[1].path, b"")
    folder.write_bytes("data/shard=00009/part-0000.parquet", b"stray")
    folder.write_bytes("holdout/notes.txt", b"stray")
    folder.write_bytes("picture.png", b"not among the parts")
    report = verify(folder)
    assert not report.ok
    assert [p.verdict for p in report.parts] == ["missing", "broken", *["ok"] * 2]
    assert "damaged" in report.parts[1].reason
    assert report.extra_files == ("data/shard=00009/part-0000.parquet", "holdout/notes.txt")
    assert report.num_valid_images == 13
    value = json.loads(json.dumps(report.to_json()))
    assert (value["num_ok"], value["num_missing"], value["num_broken"]) == (2, 1, 1)
    assert value["parts"][0] == {
        "path": "data/shard=00000/part-0000.parquet",
        "verdict": "missing",
        "reason": "",
    }
    assert value["ok"] is False


def test_not_a_data_set(tmp_path):
    with pytest.raises(InputError, match=r"it has no manifest\.json"):
        SurrogateDataset.open(tmp_path)
    with pytest.raises(InputError, match=r"it has no manifest\.json"):
        verify(str(tmp_path / "nowhere"))


PEAK = """
import sys
from dfshield.storage import SurrogateDataset
data = SurrogateDataset.open(sys.argv[1])
data.load(num_images=4)
def peak():
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024
before = peak()
data.load()
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_loading_does_not_hold_the_set_twice(tmp_path, make_manifest, make_arrays):
    manifest = make_manifest(
        image_shape=(3, 128, 128), num_images=640, part_size=32, shard_size=640
    )
    folder = Folder.at(tmp_path)
    write_manifest(folder, manifest)
    for part in manifest.split("data"):
        write_part(folder, manifest, part, make_arrays(manifest, part))
    size = 640 * 3 * 128 * 128 * 4
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert size * 0.9 < int(done.stdout) < size * 1.3
