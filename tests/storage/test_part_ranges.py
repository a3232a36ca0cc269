"""What is read of a part without the rest, and that it is little."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from s3_server import BUCKET

from dfshield.storage import (
    Commit,
    Folder,
    PartError,
    SurrogateDataset,
    fits_commit,
    read_commit,
    write_manifest,
    write_part,
)
from dfshield.storage.page_headers import read_page_header

ROWS = [0, 7, 8, 1023, 1024, 2047, 2048, 2999]


@pytest.fixture(params=["float32", "float16", "uint8"])
def large(request, folder, make_manifest, make_arrays):
    """A set of one part of three pages, its only part and what this holds."""
    manifest = make_manifest(
        image_shape=(3, 8, 8),
        image_dtype=request.param,
        num_images=3000,
        part_size=3000,
        shard_size=3000,
        num_holdout=0,
    )
    write_manifest(folder, manifest)
    (part,) = manifest.parts
    arrays = make_arrays(manifest, part)
    write_part(folder, manifest, part, arrays)
    return SurrogateDataset(folder, manifest), part, arrays


def rewrite(data, part, **options):
    path = data.folder.local / part.path
    pq.write_table(pq.ParquetFile(path).read(), path, **options)


@pytest.mark.parametrize(
    "options",
    [
        None,
        {},
        {"compression": "zstd"},
        {"compression": "none", "row_group_size": 1000},
        {"compression": "none", "use_dictionary": False},
        {"compression": "none", "use_dictionary": False, "data_page_version": "2.0"},
    ],
    ids=str,
)
def test_columns_and_images_are_those_of_the_whole_part(large, options):
    data, part, arrays = large
    if options is not None:
        rewrite(data, part, **options)
    labels, logits = data.columns(part, "label", "teacher_logits")
    np.testing.assert_array_equal(labels, arrays.labels)
    np.testing.assert_array_equal(logits, arrays.teacher_logits)
    images = data.images(part, ROWS)
    assert images.dtype == arrays.images.dtype
    np.testing.assert_array_equal(images, arrays.images[ROWS])


def test_a_store_sends_little(s3, make_manifest, make_arrays):
    manifest = make_manifest(
        image_shape=(3, 32, 32), num_images=400, part_size=400, shard_size=400, num_holdout=0
    )
    data = SurrogateDataset(Folder.at(f"s3://{BUCKET}/set"), manifest)
    (part,) = manifest.parts
    arrays = make_arrays(manifest, part)
    commit = write_part(data.folder, manifest, part, arrays)
    image = arrays.images[0].nbytes
    for action, least, most in (
        (lambda: fits_commit(data.folder, manifest, part, commit), 1000, 8192),
        (lambda: data.columns(part, "label"), 400 * 8, 400 * 8 + 10_000),
        (lambda: data.images(part, ROWS[:3]), 3 * image, 3 * image + 10_000),
        (lambda: data.read(part), commit.num_bytes, commit.num_bytes + 1000),
    ):
        s3.sent.clear()
        action()
        assert least <= s3.sent.total() <= most


def test_a_footer_longer_than_what_is_read_at_first(folder, make_manifest, make_arrays):
    names = tuple(5000 * letter for letter in "abc")
    manifest = make_manifest(class_names=names)
    part = manifest.parts[0]
    commit = write_part(folder, manifest, part, make_arrays(manifest, part))
    assert fits_commit(folder, manifest, part, commit)
    (labels,) = SurrogateDataset(folder, manifest).columns(part, "label")
    np.testing.assert_array_equal(labels, make_arrays(manifest, part).labels)


def cut(data):
    return data[:-10]


@pytest.mark.parametrize(
    "damage", [lambda _: b"", lambda _: b"PAR1", lambda data: b"PAR1" * (len(data) // 4), cut]
)
def test_what_is_no_part_does_not_fit_and_is_said_to_be_damaged(complete, damage):
    folder, manifest = complete
    part = manifest.parts[0]
    commit = read_commit(folder, manifest, part)[1]
    content = damage(folder.read_bytes(part.path))
    folder.write_bytes(part.path, content)
    assert not fits_commit(folder, manifest, part, Commit(commit.checksum, len(content)))
    with pytest.raises(PartError, match="truncated or damaged"):
        SurrogateDataset(folder, manifest).columns(part, "label")
    folder.delete(part.path)
    with pytest.raises(PartError, match="missing"):
        SurrogateDataset(folder, manifest).images(part, [0])


def test_an_image_that_is_none_is_not_returned(complete, make_arrays):
    folder, manifest = complete
    part = manifest.parts[0]
    content = folder.read_bytes(part.path)
    first = make_arrays(manifest, part).images[0].tobytes()
    folder.write_bytes(part.path, content.replace(first, b"\xff" * len(first)))
    data = SurrogateDataset(folder, manifest)
    assert data.images(part, [1]).shape == (1, *manifest.image_shape)
    with pytest.raises(PartError, match=r"pixels lie outside \[0, 1\]"):
        data.images(part, [0])


def test_a_part_fits_only_its_own_commit_and_place(complete, make_manifest):
    folder, manifest = complete
    first, second = manifest.parts[:2]
    commit, other = (read_commit(folder, manifest, part)[1] for part in (first, second))
    assert fits_commit(folder, manifest, first, commit)
    assert not fits_commit(folder, manifest, first, other)
    assert not fits_commit(folder, manifest, first, Commit(commit.checksum, commit.num_bytes + 1))
    folder.write_bytes(first.path, folder.read_bytes(second.path))
    assert not fits_commit(folder, manifest, first, other)  # it belongs elsewhere
    assert not fits_commit(folder, make_manifest(image_shape=(5, 2, 3)), second, other)
    with pytest.raises(PartError, match="its part is 1, not 0"):
        SurrogateDataset(folder, manifest).columns(first, "label")


@pytest.mark.parametrize("data", [b"", b"\x15", b"\x00", b"\xff" * 64, b"PAR1" * 8])
def test_what_is_no_page_header_is_none(data):
    assert read_page_header(data) is None
