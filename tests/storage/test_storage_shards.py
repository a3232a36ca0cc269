"""Summaries of shards made from tables: those that the files would give, kept without any part."""

import pytest

from dfshield.runs.work.shard_summaries import shard_picture, shard_summaries, summarise_shards
from dfshield.storage import (
    Folder,
    PartError,
    SurrogateTables,
    part_table,
    write_manifest,
    write_part,
)


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
        shard_summaries(memory, manifest)
    summarise_shards(files, manifest)
    summarise_shards(memory, manifest, tables.read)
    summaries = files.list("summary")
    assert len(summaries) == 4  # two shards, JSON and picture of each
    assert memory.list() == ["manifest.json", *summaries]
    for name in summaries:
        assert memory.read_bytes(name) == files.read_bytes(name)
    assert shard_summaries(memory, manifest) == shard_summaries(files, manifest)
    assert shard_picture(memory, manifest, 1) == files.read_bytes("summary/shard-00001.png")


def test_what_is_recorded_is_not_read_again(folder, make_manifest, make_arrays):
    manifest = make_manifest(image_shape=(3, 8, 8))
    read = []

    def get_table(part):
        read.append(part)
        return part_table(manifest, part, make_arrays(manifest, part))

    tables = SurrogateTables(manifest, get_table)
    for _ in range(2):
        summarise_shards(folder, manifest, tables.read)
        assert read == list(manifest.split("data"))
