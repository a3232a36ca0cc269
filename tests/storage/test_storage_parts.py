"""Parts: plain Parquet, equal bytes for equal arrays, and every damage told."""

import dataclasses
import hashlib
import json
import pickle
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dfshield.errors import InputError
from dfshield.storage import (
    Folder,
    PartError,
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
        checksum = write_part(folder, manifest, part, arrays)
        assert checksum == arrays.checksum()
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
    assert write_part(folder, manifest, part, other) == arrays.checksum()
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


def rewritten(folder, part, *, metadata=None, table=lambda t: t):
    """Write a part again by plain pyarrow with something changed."""
    path = folder.local / part.path
    changed = table(pq.ParquetFile(path).read())
    found = {**changed.schema.metadata, **(metadata or {})}
    pq.write_table(changed.replace_schema_metadata(found), path, compression="none")


def replace(table, name, values):
    position = table.schema.get_field_index(name)
    column = pa.array(values, table.schema.field(name).type)
    return table.set_column(position, table.schema.field(name), column)


def flipped(folder, part, offset):
    data = bytearray(folder.read_bytes(part.path))
    data[offset] ^= 1
    folder.write_bytes(part.path, bytes(data))


def test_rewriting_without_a_change_is_valid(complete):
    folder, manifest = complete
    rewritten(folder, manifest.parts[0])
    assert check_part(folder, manifest, manifest.parts[0]) is None


def test_flipped_pixel(complete, make_arrays):
    folder, manifest = complete
    part = manifest.parts[0]
    pixels = make_arrays(manifest, part).images.tobytes()
    offset = folder.read_bytes(part.path).index(pixels[:16])
    flipped(folder, part, offset + 5)
    assert check_part(folder, manifest, part) == "its content does not match its checksum"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda f, a, b: f.delete(a.path), "missing"),
        (lambda f, a, b: f.write_bytes(a.path, b""), "truncated or damaged"),
        (lambda f, a, b: f.write_bytes(a.path, b"PAR1" * 9), "truncated or damaged"),
        (lambda f, a, b: f.write_bytes(a.path, f.read_bytes(a.path)[:-1]), "truncated or damaged"),
        (lambda f, a, b: f.write_bytes(a.path, f.read_bytes(b.path)), "its part is 1, not 0"),
        (
            lambda f, a, b: rewritten(f, a, metadata={b"dfshield.identity": b"0" * 64}),
            "its identity is 0000",
        ),
        (
            lambda f, a, b: rewritten(f, a, metadata={b"dfshield.sha256": b"0" * 64}),
            "does not match its checksum",
        ),
        (lambda f, a, b: rewritten(f, a, metadata={b"dfshield.sha256": b""}), "no checksum"),
        (
            lambda f, a, b: rewritten(f, a, metadata={b"dfshield.image_shape": b"[5, 2, 3]"}),
            r"its image_shape is [5, 2, 3], not [2, 5, 3]",
        ),
        (
            lambda f, a, b: rewritten(f, a, metadata={b"dfshield.image_dtype": b"float16"}),
            "its image dtype is float16",
        ),
        (
            lambda f, a, b: rewritten(f, a, metadata={b"dfshield.format_version": b"2"}),
            "its format version is 2",
        ),
        (lambda f, a, b: rewritten(f, a, table=lambda t: t.slice(1)), "does not match"),
        (lambda f, a, b: rewritten(f, a, table=lambda t: t.slice(0, 0)), "does not match"),
        (lambda f, a, b: rewritten(f, a, table=lambda t: t.drop(["seed"])), "its columns are not"),
        (
            lambda f, a, b: rewritten(f, a, table=lambda t: replace(t, "label", [9] * 8)),
            "labels: every label must lie in 0..2",
        ),
        (
            lambda f, a, b: rewritten(f, a, table=lambda t: replace(t, "loss_tv", [0.0] * 8)),
            "does not match its checksum",
        ),
    ],
)
def test_damage_is_told(complete, damage, reason):
    folder, manifest = complete
    first, second = manifest.parts[:2]
    damage(folder, first, second)
    found = check_part(folder, manifest, first)
    assert found is not None
    assert reason in found
    with pytest.raises(PartError) as caught:
        read_part(folder, manifest, first)
    assert str(caught.value).startswith(str(folder.local / first.path))
    assert "\n" not in str(caught.value)
    assert check_part(folder, manifest, second) is None


def test_swapped_parts(complete):
    folder, manifest = complete
    a, b = manifest.parts[0], manifest.parts[1]
    moved = {a: folder.read_bytes(b.path), b: folder.read_bytes(a.path)}
    for part, data in moved.items():
        folder.write_bytes(part.path, data)
        assert "it belongs elsewhere" in check_part(folder, manifest, part)
    # Even when the metadata is made to fit, the batches give it away.
    for part, other in ((a, b), (b, a)):
        rewritten(folder, part, metadata={b"dfshield.part": str(part.index).encode()})
        assert "its batches are not" in check_part(folder, manifest, part)
        assert other.num_images == part.num_images


def test_holdout_is_not_data(complete):
    folder, manifest = complete
    data = manifest.split("data")[0]
    holdout = manifest.split("holdout")[0]
    shutil.copy(folder.local / holdout.path, folder.local / data.path)
    assert "its split is holdout, not data" in check_part(folder, manifest, data)


def test_part_of_another_identity(complete, make_manifest, make_arrays):
    folder, manifest = complete
    other = make_manifest(identity={**manifest.identity, "lr": 3e-5})
    part = manifest.parts[0]
    assert "its identity is" in check_part(folder, other, part)
    write_part(folder, other, part, make_arrays(other, part))
    assert check_part(folder, other, part) is None
    for changed in ({"class_names": ("a", "b", "c")}, {"image_shape": (5, 2, 3)}):
        assert "it belongs elsewhere" in check_part(folder, make_manifest(**changed), part)


def test_any_flipped_bit_is_found_or_harmless(complete, make_arrays):
    folder, manifest = complete
    part = manifest.split("holdout")[0]
    good, expected = folder.read_bytes(part.path), make_arrays(manifest, part)
    draw = np.random.default_rng(0)
    found = 0
    for offset in draw.choice(len(good), 400, replace=False):
        data = bytearray(good)
        data[offset] ^= 1 << draw.integers(8)
        (folder.local / part.path).write_bytes(data)
        if check_part(folder, manifest, part) is None:
            assert_equal(read_part(folder, manifest, part), expected)
        else:
            found += 1
    assert found > 100


def test_part_error_can_be_sent_to_another_process(complete):
    folder, manifest = complete
    folder.delete(manifest.parts[0].path)
    with pytest.raises(PartError) as caught:
        read_part(folder, manifest, manifest.parts[0])
    copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own bytes
    assert str(copy) == str(caught.value)
    assert (copy.part, copy.reason) == (manifest.parts[0], "missing")
    assert copy.folder == str(folder)


def test_full_disk_keeps_what_is_committed(small_disk, make_manifest, make_arrays):
    manifest = make_manifest(image_shape=(3, 64, 64), num_holdout=0)
    folder = Folder.at(small_disk / "set")
    write_manifest(folder, manifest)
    written = []

    def write_all():
        for part in manifest.parts:
            write_part(folder, manifest, part, make_arrays(manifest, part))
            written.append(part)

    with pytest.raises(InputError, match="No space left on device: free some space"):
        write_all()
    assert written
    assert folder.list() == [*(part.path for part in written), "manifest.json"]
    assert all(check_part(folder, manifest, part) is None for part in written)
    assert not [p for p in small_disk.rglob("*") if p.name.endswith("-tmp")]
