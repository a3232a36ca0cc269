"""Parts as tables in memory: the same tensors and checks as from files, and the same bytes."""

import dataclasses
import gc
import pickle
import weakref

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from dfshield.errors import InputError
from dfshield.storage import (
    PartError,
    SurrogateDataset,
    SurrogateTables,
    part_arrays,
    part_table,
    table_checksum,
    write_manifest,
    write_part,
)

DTYPES = pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])


def streamed(table):
    """The table as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def as_an_object_store_gives_it(table):
    """The table over one immutable buffer that is shared, not copied."""
    return pa.ipc.open_stream(pa.py_buffer(streamed(table))).read_all()


@pytest.fixture
def make_tables(make_arrays):
    def make(manifest):
        return {
            part: as_an_object_store_gives_it(
                part_table(manifest, part, make_arrays(manifest, part))
            )
            for part in manifest.parts
        }

    return make


@pytest.fixture
def one(make_manifest, make_arrays):
    manifest = make_manifest()
    part = manifest.parts[0]
    arrays = make_arrays(manifest, part)
    return manifest, part, arrays, part_table(manifest, part, arrays)


@DTYPES
def test_round_trip(make_manifest, make_arrays, make_tables, dtype):
    manifest = make_manifest(image_dtype=dtype)
    for part, table in make_tables(manifest).items():
        arrays = make_arrays(manifest, part)
        found = part_arrays(table, manifest, part)
        assert found.checksum() == arrays.checksum() == table_checksum(table)
        np.testing.assert_array_equal(found.images, arrays.images)


@DTYPES
@pytest.mark.parametrize(
    ("split", "count"), [("data", None), ("data", 13), ("data", 16), ("data", 0), ("holdout", None)]
)
def test_tables_load_as_files_do(
    folder, make_manifest, make_arrays, make_tables, dtype, split, count
):
    manifest = make_manifest(image_dtype=dtype)
    write_manifest(folder, manifest)
    for part in manifest.parts:
        write_part(folder, manifest, part, make_arrays(manifest, part))
    tables = SurrogateTables(manifest, make_tables(manifest).__getitem__)
    found = dataclasses.astuple(tables.load(split, num_images=count))
    wanted = dataclasses.astuple(SurrogateDataset.open(folder).load(split, num_images=count))
    for left, right in zip(found, wanted, strict=True):
        assert left.dtype == right.dtype
        assert left.shape == right.shape
        assert torch.equal(left, right)


@DTYPES
def test_read_only_tables_are_shared_and_give_tensors_of_their_own(
    make_manifest, make_tables, dtype
):
    manifest = make_manifest(image_dtype=dtype)
    tables = make_tables(manifest)
    part = manifest.parts[0]
    stored = tables[part]["image"].chunk(0).buffers()[1]
    assert not stored.is_mutable
    images = part_arrays(tables[part], manifest, part).images
    assert images.ctypes.data == stored.address
    assert not images.flags.writeable
    reader = SurrogateTables(manifest, tables.__getitem__)
    first = reader.load()
    before = [tensor.clone() for tensor in dataclasses.astuple(first)]
    for tensor in dataclasses.astuple(first):
        tensor.zero_()
    for left, right in zip(dataclasses.astuple(reader.load()), before, strict=True):
        assert torch.equal(left, right)


@DTYPES
def test_a_file_is_its_table_and_nothing_else(folder, make_manifest, make_arrays, dtype):
    manifest = make_manifest(image_dtype=dtype)
    for part in manifest.parts:
        table = part_table(manifest, part, make_arrays(manifest, part))
        commit = write_part(folder, manifest, part, make_arrays(manifest, part))
        assert commit.checksum == table_checksum(table)
        read = pq.ParquetFile(folder.local / part.path).read()
        assert read.equals(table, check_metadata=True)
        plain = pa.BufferOutputStream()
        pq.write_table(
            table, plain, compression="none", use_dictionary=False, write_statistics=False
        )
        assert folder.read_bytes(part.path) == plain.getvalue().to_pybytes()


def test_only_the_needed_parts_are_fetched_one_at_a_time(make_manifest, make_arrays):
    manifest = make_manifest(num_images=40)
    pixels, fetched = [], []

    def get_table(part):
        gc.collect()
        assert [array() for array in pixels] == [None] * len(pixels), "an earlier part is held"
        arrays = make_arrays(manifest, part)
        pixels.append(weakref.ref(arrays.images))
        fetched.append(part)
        table = part_table(manifest, part, arrays)
        del arrays
        assert pixels[-1]() is not None  # it is the table that keeps the pixels
        return table

    tables = SurrogateTables(manifest, get_table)
    assert len(tables.load(num_images=25)) == 25
    assert fetched == list(manifest.split("data")[:4])
    with pytest.raises(InputError, match="41 images of 'data' wanted, but 40 are planned"):
        tables.load(num_images=41)
    assert len(fetched) == 4


def test_slices_and_chunks_of_larger_tables_are_read(one):
    manifest, part, arrays, table = one
    doubled = pa.concat_tables([table, table])
    for whole in (doubled.slice(8), doubled.combine_chunks().slice(8), doubled.slice(8, 8)):
        assert part_arrays(whole, manifest, part).checksum() == arrays.checksum()
    chunks = pa.concat_tables([table.slice(0, 3), table.slice(3)])
    assert chunks["image"].num_chunks == 2
    assert part_arrays(chunks, manifest, part).checksum() == arrays.checksum()


def with_column(table, name, values):
    field = table.schema.field(name)
    return table.set_column(table.schema.get_field_index(name), field, pa.array(values, field.type))


def with_metadata(table, key, value):
    changed = {f"dfshield.{key}".encode(): value.encode()}
    return table.replace_schema_metadata({**table.schema.metadata, **changed})


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda t: t.slice(1), "does not match its checksum"),
        (lambda t: t.slice(0, 0), "does not match its checksum"),
        (lambda t: t.schema.empty_table(), "does not match its checksum"),
        (lambda t: pa.concat_tables([t, t]), "does not match its checksum"),
        (lambda t: t.take(pa.array([1, 0, *range(2, 8)])), "does not match its checksum"),
        (lambda t: with_column(t, "loss_tv", [0.0] * 8), "does not match its checksum"),
        (lambda t: with_column(t, "label", [3] * 8), "every label must lie in 0..2"),
        (lambda t: with_column(t, "seed", [None] * 8), "missing values"),
        (lambda t: t.drop_columns(["seed"]), "its columns are not those of a part"),
        (lambda t: t.select(t.column_names[::-1]), "its columns are not those of a part"),
        (lambda t: t.replace_schema_metadata(None), "its format version is none"),
        (lambda t: with_metadata(t, "identity", "0" * 64), "its identity is 0000"),
        (lambda t: with_metadata(t, "part", "1"), "its part is 1, not 0"),
        (lambda t: with_metadata(t, "image_dtype", "float16"), "its image dtype is float16"),
        (lambda t: with_metadata(t, "sha256", "0" * 64), "does not match its checksum"),
        (lambda t: with_metadata(t, "sha256", ""), "it carries no checksum"),
    ],
)
def test_damage_is_told_with_the_name_of_the_part(one, damage, reason):
    manifest, part, _, table = one
    damaged = damage(table)
    tables = SurrogateTables(manifest, lambda _: damaged)
    for read in (tables.load, lambda: tables.read(part)):
        with pytest.raises(PartError) as caught:
            read()
        assert str(caught.value).startswith(f"{part.path} in memory: ")
        assert reason in caught.value.reason
        assert "\n" not in str(caught.value)
    copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own bytes
    assert str(copy) == str(caught.value)
    assert (copy.part, copy.reason, copy.folder) == (part, caught.value.reason, None)


def test_a_part_of_another_place_or_set_is_refused(make_manifest, make_tables):
    manifest = make_manifest()
    tables = make_tables(manifest)
    first, second, *_ = manifest.split("data")
    (held,) = manifest.split("holdout")
    for part, table, reason in [
        (second, tables[first], "its part is 0, not 1"),
        (first, tables[held], "its split is holdout, not data"),
    ]:
        with pytest.raises(PartError, match=reason):
            part_arrays(table, manifest, part)
    for other, reason in [
        (make_manifest(identity={"teacher": "u" * 64}), "its identity is"),
        (make_manifest(class_names=("a", "b", "c")), "its class_names is"),
        (make_manifest(image_dtype="uint8"), "its image dtype is float32, not uint8"),
        (make_manifest(image_shape=(5, 2, 3)), "its image_shape is"),
    ]:
        with pytest.raises(PartError, match=reason):
            part_arrays(tables[first], other, first)
    # Metadata that was made to fit does not help: the batches give the part away.
    with pytest.raises(PartError, match="its batches are not 2 to 3"):
        part_arrays(with_metadata(tables[first], "part", "1"), manifest, second)


def test_arrays_of_another_part_make_no_table(one):
    manifest, part, arrays, _ = one
    second = manifest.parts[1]
    with pytest.raises(InputError, match=rf"^{second.path}: .* its batches are not 2 to 3"):
        part_table(manifest, second, arrays)
    with pytest.raises(InputError, match="its seed is not 7"):
        part_table(manifest, part, dataclasses.replace(arrays, seed=arrays.seed + 1))


def test_any_flipped_bit_on_the_way_is_found_or_harmless(one):
    manifest, part, arrays, table = one
    good = streamed(table)
    draw = np.random.default_rng(0)
    lengths = len(table.schema.serialize())  # behind it, the sizes of all buffers
    offsets = [*range(lengths, lengths + 1000), *draw.integers(len(good), size=1000)]
    reasons = []
    for offset in offsets:
        data = bytearray(good)
        data[offset] ^= 1 << draw.integers(8)
        try:
            received = pa.ipc.open_stream(pa.py_buffer(bytes(data))).read_all()
        except (pa.ArrowException, OSError, ValueError, KeyError):
            continue  # no table at all
        try:
            assert part_arrays(received, manifest, part).checksum() == arrays.checksum()
        except PartError as error:
            reasons.append(error.reason)
    assert sum("checksum" in reason for reason in reasons) > 100
    assert any("expected at least" in reason for reason in reasons)  # a buffer too short
