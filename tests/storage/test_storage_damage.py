"""Damaged parts: what is found, said and made again."""

import pickle
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dfshield.errors import InputError
from dfshield.storage import (
    Folder,
    PartError,
    check_part,
    read_part,
    write_manifest,
    write_part,
)

COMMON = ["images", "labels", "teacher_logits", "batch", "seed"]


def assert_equal(left, right):
    assert left.columns.keys() == right.columns.keys()
    pairs = [(getattr(left, name), getattr(right, name)) for name in COMMON]
    for a, b in [*pairs, *((left.columns[name], right.columns[name]) for name in left.columns)]:
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


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
