"""Summaries of shards made from tables: those that the files would give, kept without any part."""

from dataclasses import replace
from io import BytesIO

import pytest
from PIL import Image

from dfshield.runs.work.shard_summaries import ShardSummaries, shard_picture, shard_summaries
from dfshield.storage import (
    Folder,
    PartError,
    SurrogateDataset,
    SurrogateTables,
    num_agreeing,
    part_table,
    write_manifest,
    write_part,
)


def summarise(folder, data):
    ShardSummaries(folder, data, agreeing={}, todo=()).write_others()


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_summaries_from_tables_equal_those_from_files(tmp_path, make_manifest, make_arrays, dtype):
    manifest = make_manifest(image_shape=(3, 8, 8), image_dtype=dtype)
    files, memory = Folder.at(tmp_path / "files"), Folder.at(tmp_path / "memory")
    for folder in (files, memory):
        write_manifest(folder, manifest)
    for part in manifest.parts:
        write_part(files, manifest, part, make_arrays(manifest, part))
    tables = SurrogateTables(
        manifest, lambda part: part_table(manifest, part, make_arrays(manifest, part))
    )
    with pytest.raises(PartError, match="missing"):
        shard_summaries(SurrogateDataset(memory, manifest))
    summarise(files, SurrogateDataset(files, manifest))
    summarise(memory, tables)
    summaries = files.list("summary")
    assert len(summaries) == 4  # two shards, JSON and picture of each
    assert memory.list() == ["manifest.json", *summaries]
    for name in summaries:
        assert memory.read_bytes(name) == files.read_bytes(name)
    stored, kept = (SurrogateDataset(folder, manifest) for folder in (files, memory))
    assert shard_summaries(kept) == shard_summaries(stored)
    assert shard_picture(kept, 1) == files.read_bytes("summary/shard-00001.png")


def test_what_is_recorded_is_not_read_again(folder, make_manifest, make_arrays):
    manifest = make_manifest(image_shape=(3, 8, 8))
    read = []

    def get_table(part):
        read.append(part)
        return part_table(manifest, part, make_arrays(manifest, part))

    tables = SurrogateTables(manifest, get_table)
    summarise(folder, tables)
    assert set(read) == set(manifest.split("data"))
    read.clear()
    summarise(folder, tables)
    assert not read


@pytest.mark.parametrize("order", [1, -1])
def test_a_summary_is_written_with_the_last_part_of_its_shard(
    tmp_path, make_manifest, make_arrays, order
):
    manifest = make_manifest(image_shape=(3, 8, 8))
    whole, folder = Folder.at(tmp_path / "whole"), Folder.at(tmp_path / "made")
    for part in manifest.parts:
        write_part(whole, manifest, part, make_arrays(manifest, part))
    summarise(whole, SurrogateDataset(whole, manifest))
    there, *todo = manifest.parts
    arrays = make_arrays(manifest, there)
    write_part(folder, manifest, there, arrays)
    agreeing = {there.path: num_agreeing(arrays.labels, arrays.teacher_logits)}
    data = SurrogateDataset(folder, manifest)
    summaries = ShardSummaries(folder, data, agreeing=agreeing, todo=todo)
    for part in todo[::order]:
        arrays = make_arrays(manifest, part)
        write_part(folder, manifest, part, arrays)
        shard = [other.path for other in manifest.split("data") if other.shard == part.shard]
        summaries.made(part, arrays.labels, num_agreeing(arrays.labels, arrays.teacher_logits))
        if part.split == "data":
            written = f"summary/shard-{part.shard:05d}.json" in folder.list()
            assert written == (set(shard) <= set(folder.list()))
    summaries.write_others()
    assert len(folder.list("summary")) == 4
    for name in folder.list():
        assert folder.read_bytes(name) == whole.read_bytes(name)


def test_a_class_that_the_picture_has_no_room_for_is_counted(folder, make_manifest, make_arrays):
    names = tuple(f"class {number}" for number in range(100))
    manifest = make_manifest(image_shape=(1, 64, 64), num_classes=100, class_names=names)
    for part in manifest.parts:
        arrays = make_arrays(manifest, part)
        arrays = replace(arrays, labels=arrays.labels % 3 + 97)
        write_part(folder, manifest, part, arrays)
    data = SurrogateDataset(folder, manifest)
    assert sum(shard_summaries(data)[0]["class_counts"][97:]) == 16
    with Image.open(BytesIO(shard_picture(data, 0))) as picture:
        assert picture.format == "PNG"
