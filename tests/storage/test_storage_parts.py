"""Parts: plain Parquet, equal bytes for equal arrays, and every damage told."""

import dataclasses
import hashlib
import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from dfshield.errors import InputError
from dfshield.storage import (
    Folder,
    check_part,
    read_manifest,
    read_part,
    write_manifest,
    write_part,
)
from dfshield.storage.columns import FORMAT_1

COMMON = ["images", "labels", "teacher_logits", "batch", "seed"]


def assert_equal(left, right):
    assert left.columns.keys() == right.columns.keys()
    pairs = [(getattr(left, name), getattr(right, name)) for name in COMMON]
    for a, b in [*pairs, *((left.columns[name], right.columns[name]) for name in left.columns)]:
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_round_trip(folder, make_manifest, make_arrays, dtype):
    manifest = make_manifest(image_dtype=dtype)
    for part in manifest.parts:
        arrays = make_arrays(manifest, part)
        commit = write_part(folder, manifest, part, arrays)
        assert commit.checksum == arrays.checksum()
        assert commit.num_bytes == folder.sizes()[part.path]
        assert_equal(read_part(folder, manifest, part), arrays)
    assert folder.list() == sorted(part.path for part in manifest.parts)


OWN = {"target": "int64", "confidence": "float32", "alpha": "float64"}


@pytest.mark.parametrize("columns", [{}, OWN])
def test_a_synthesizer_may_have_columns_of_its_own(folder, make_manifest, make_arrays, columns):
    manifest = make_manifest(columns=columns, generator="9" * 64)
    assert manifest.format_version == 2
    write_manifest(folder, manifest)
    assert read_manifest(folder) == manifest
    part = manifest.parts[0]
    arrays = make_arrays(manifest, part)
    write_part(folder, manifest, part, arrays)
    assert_equal(read_part(folder, read_manifest(folder), part), arrays)
    table = pd.read_parquet(folder.local / part.path)
    assert list(table) == ["image", "label", "teacher_logits", "batch", "seed", *sorted(columns)]
    assert {name: table[name].dtype.name for name in columns} == columns

    digest = hashlib.sha256()
    for name in (*COMMON, *sorted(columns)):
        values = arrays.columns[name] if name in columns else getattr(arrays, name)
        shape = "x".join(map(str, values.shape))
        digest.update(f"{name} {values.dtype.name} {shape}\n".encode() + values.tobytes())
    assert digest.hexdigest() == arrays.checksum()

    other = make_manifest(columns={**columns, "more": "int64"}, generator="9" * 64)
    assert check_part(folder, other, part) == "its columns are not those of a part"
    with pytest.raises(InputError, match=r"its own columns are not .*more"):
        write_part(Folder.at(folder.local / "other"), other, part, arrays)
    refitted = make_manifest(columns=columns, generator="8" * 64)
    assert "its generator is 9999" in check_part(folder, refitted, part)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"seed": "int64"}, "'seed' is a column of every part"),
        ({"note": "object"}, "note is object: choose one of float32, float64, int64"),
        (dict.fromkeys(FORMAT_1, "float32"), "those of format 1 have other dtypes"),
    ],
)
def test_columns_that_cannot_be(make_manifest, columns, said):
    with pytest.raises(ValueError, match=said):
        make_manifest(columns=columns)


def rebuilt(path, columns):
    """The arrays of a part from its columns and schema metadata, without dfshield."""
    metadata = {k.decode(): v.decode() for k, v in pq.read_schema(path).metadata.items()}
    shape = json.loads(metadata["dfshield.image_shape"])
    dtype = np.dtype(metadata["dfshield.image_dtype"]).newbyteorder("<")
    alphas = ["alpha_class", "alpha_feature", "alpha_tv"]
    losses = ["loss_class", "loss_feature", "loss_tv", "loss_total"]
    arrays = {
        "images": np.frombuffer(b"".join(columns["image"]), dtype).reshape(-1, *shape),
        "labels": np.array(columns["label"], np.int64),
        "teacher_logits": np.stack([np.array(v, np.float32) for v in columns["teacher_logits"]]),
        "alphas": np.stack([np.array(columns[name], np.float64) for name in alphas], 1),
        "batch": np.array(columns["batch"], np.int64),
        "seed": np.array(columns["seed"], np.int64),
        "losses": np.stack([np.array(columns[name], np.float32) for name in losses], 1),
    }
    digest = hashlib.sha256()
    for name, values in arrays.items():
        shape = "x".join(map(str, values.shape))
        digest.update(f"{name} {values.dtype.name} {shape}\n".encode() + values.tobytes())
    assert digest.hexdigest() == metadata["dfshield.sha256"]
    return arrays, metadata


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("reader", ["pyarrow", "pandas"])
def test_any_parquet_reader_can_rebuild_the_arrays(
    folder, make_manifest, make_arrays, dtype, reader
):
    manifest = make_manifest(image_dtype=dtype)
    part = manifest.parts[1]
    expected = make_arrays(manifest, part)
    write_part(folder, manifest, part, expected)
    path = folder.local / part.path
    if reader == "pyarrow":
        columns = pq.ParquetFile(path).read().to_pydict()
    else:
        columns = {name: list(values) for name, values in pd.read_parquet(path).items()}
    arrays, metadata = rebuilt(path, columns)
    for name in COMMON:
        np.testing.assert_array_equal(arrays[name], getattr(expected, name))
    for place, (name, values) in enumerate(expected.columns.items()):
        own = np.hstack([arrays["alphas"], arrays["losses"]])
        np.testing.assert_array_equal(own[:, place], values, err_msg=name)
    assert json.loads(metadata["dfshield.class_names"]) == ["cat", "dog", "Äffle"]
    assert json.loads(metadata["dfshield.engine"]) == {"device": "cpu", "threads": 1}
    assert metadata["dfshield.shard"] == "0"
    assert metadata["dfshield.part"] == "1"


def test_the_whole_set_reads_as_one_table(complete):
    folder, _ = complete
    (folder.local / "data" / "shard=00000" / ".x.host.1.y.dfshield-tmp").write_bytes(b"half")
    table = pd.read_parquet(folder.local / "data")
    assert len(table) == 24
    assert sorted(table["batch"].unique()) == list(range(6))
    assert table["shard"].astype(int).tolist() == [0] * 16 + [1] * 8


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_equal_arrays_give_equal_bytes(tmp_path, make_manifest, make_arrays, dtype):
    manifest = make_manifest(image_dtype=dtype)
    part = manifest.parts[0]
    written = []
    for name in "ab":
        folder = Folder.at(tmp_path / name)
        arrays = make_arrays(manifest, part)
        if name == "b":  # the layout in memory does not matter
            arrays = dataclasses.replace(
                arrays,
                images=np.asfortranarray(arrays.images),
                columns={name: v[::-1].copy()[::-1] for name, v in arrays.columns.items()},
            )
        write_part(folder, manifest, part, arrays)
        written.append(folder.read_bytes(part.path))
    assert written[0] == written[1]


def test_a_valid_part_is_never_overwritten(complete, make_arrays):
    folder, manifest = complete
    part = manifest.parts[0]
    path = folder.local / part.path
    before = path.stat()
    arrays = make_arrays(manifest, part)
    other = dataclasses.replace(arrays, labels=(arrays.labels + 1) % 3)
    assert write_part(folder, manifest, part, other).checksum == arrays.checksum()
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def test_a_broken_part_is_replaced(complete, make_arrays):
    folder, manifest = complete
    part = manifest.parts[0]
    good = folder.read_bytes(part.path)
    folder.write_bytes(part.path, good[:-100])
    assert check_part(folder, manifest, part) is not None
    write_part(folder, manifest, part, make_arrays(manifest, part))
    assert folder.read_bytes(part.path) == good


def test_arrays_of_another_part_are_not_written(folder, make_manifest, make_arrays):
    manifest = make_manifest()
    first, second = manifest.parts[:2]
    arrays = make_arrays(manifest, first)
    for part, wrong, reason in [
        (second, arrays, "its batches are not 2 to 3"),
        (first, dataclasses.replace(arrays, seed=arrays.seed + 1), "its seed is not 7"),
        (manifest.parts[-1], arrays, "it has 8 images, not 5"),
        (first, dataclasses.replace(arrays, images=arrays.images[..., :2]), r"\(2, 5, 3\)"),
        (first, dataclasses.replace(arrays, images=arrays.images.astype("f2")), "not float32"),
    ]:
        if part is manifest.parts[-1]:
            part = next(p for p in manifest.parts if p.split == "holdout" and p.num_images == 5)
        with pytest.raises(InputError, match=reason):
            write_part(folder, manifest, part, wrong)
    assert folder.list() == []
