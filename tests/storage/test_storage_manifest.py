"""The plan of parts and the manifest file."""

import itertools
import json
import random
from dataclasses import FrozenInstanceError, asdict

import pytest

from dfshield.canonical import identity_hash, json_value
from dfshield.errors import InputError
from dfshield.storage import (
    FORMAT_VERSION,
    Part,
    plan_parts,
    read_manifest,
    write_manifest,
)


def rows(parts, batch_size):
    """The batch index of every image, in order."""
    return [
        batch
        for part in parts
        for batch in itertools.islice(
            (b for b in part.batches for _ in range(batch_size)), part.num_images
        )
    ]


@pytest.mark.parametrize("seed", range(40))
def test_plan_of_data(seed):
    draw = random.Random(seed)
    batch = draw.randint(1, 7)
    part_size, shard_size = batch * draw.randint(1, 5), batch * draw.randint(1, 12)
    sizes = {"batch_size": batch, "part_size": part_size, "shard_size": shard_size}
    parts, total = (), 0
    for _ in range(4):
        before = parts
        wanted = batch * draw.randint(1, 60)
        parts = plan_parts(before, split="data", num_images=wanted, **sizes)
        assert parts[: len(before)] == before
        total = max(total, wanted)  # fewer than exist: the plan is kept
        assert sum(p.num_images for p in parts) == total
        assert rows(parts, batch) == [i // batch for i in range(total)]
        assert len({p.path for p in parts}) == len(parts)
        shards = {k: list(g) for k, g in itertools.groupby(parts, key=lambda p: p.shard)}
        assert list(shards) == list(range(len(shards)))
        for number, members in shards.items():
            size = sum(p.num_images for p in members)
            assert [p.index for p in members] == list(range(len(members)))
            assert size == shard_size if number < len(shards) - 1 else size <= shard_size
            assert all(p.num_images <= part_size for p in members)
        if before and before[-1].num_images < part_size:
            assert before[-1] in parts
    # Without growth, only the last part of a shard is short.
    once = plan_parts((), split="data", num_images=total, **sizes)
    for part, after in itertools.pairwise(once):
        assert part.num_images == part_size or after.shard == part.shard + 1


@pytest.mark.parametrize("seed", range(20))
def test_plan_of_holdout(seed):
    draw = random.Random(seed)
    batch = draw.randint(1, 7)
    part_size = batch * draw.randint(1, 4)
    sizes = {"batch_size": batch, "part_size": part_size, "shard_size": batch}
    first, more = draw.randint(1, 50), draw.randint(1, 50)
    parts = plan_parts((), split="holdout", num_images=first, **sizes)
    grown = plan_parts(parts, split="holdout", num_images=first + more, **sizes)
    assert grown[: len(parts)] == parts
    assert sum(p.num_images for p in parts) == first
    assert sum(p.num_images for p in grown) == first + more
    assert {p.shard for p in grown} == {0}
    assert [p.index for p in grown] == list(range(len(grown)))
    batches = [b for p in grown for b in p.batches]
    assert batches == list(range(len(batches)))
    assert rows(parts, batch) == [i // batch for i in range(first)]


def test_splits_do_not_mix():
    sizes = {"batch_size": 4, "part_size": 8, "shard_size": 16}
    data = plan_parts((), split="data", num_images=24, **sizes)
    holdout = plan_parts(data, split="holdout", num_images=5, **sizes)
    assert [p.path for p in data] == [
        "data/shard=00000/part-0000.parquet",
        "data/shard=00000/part-0001.parquet",
        "data/shard=00001/part-0000.parquet",
    ]
    assert [p.path for p in holdout] == ["holdout/part-0000.parquet"]
    assert plan_parts(data + holdout, split="data", num_images=24, **sizes) == data
    assert plan_parts((), split="holdout", num_images=0, **sizes) == ()


@pytest.mark.parametrize(
    ("key", "value", "nearest"),
    [
        ("storage.part_size", 9, 8),
        ("storage.part_size", 0, 4),
        ("storage.part_size", 1, 4),
        ("storage.shard_size", 15, 16),
        ("synthesis.num_images", 1001, 1000),
        ("synthesis.num_images", -8, 4),
    ],
)
def test_sizes_that_do_not_fit(key, value, nearest):
    sizes = {"batch_size": 4, "part_size": 8, "shard_size": 16, "num_images": 24}
    sizes[key.partition(".")[2]] = value
    with pytest.raises(InputError) as caught:
        plan_parts((), split="data", **sizes)
    assert str(caught.value).startswith(f"{key}: {value} ")
    assert "synthesis.batch_size (4)" in str(caught.value)
    assert str(caught.value).endswith(f"the nearest one is {nearest}")


def test_other_sizes_are_refused():
    sizes = {"part_size": 8, "shard_size": 16}
    with pytest.raises(InputError, match=r"synthesis\.batch_size: 0"):
        plan_parts((), split="data", num_images=8, batch_size=0, **sizes)
    with pytest.raises(InputError, match=r"synthesis\.num_holdout: -1"):
        plan_parts((), split="holdout", num_images=-1, batch_size=4, **sizes)


def test_manifest_round_trip(folder, make_manifest):
    manifest = make_manifest()
    write_manifest(folder, manifest)
    first = folder.read_bytes("manifest.json")
    folder.write_json("as-any-other.json", manifest.to_json())
    assert folder.read_bytes("as-any-other.json") == first
    again = read_manifest(folder)
    assert again == manifest
    write_manifest(folder, again)
    assert folder.read_bytes("manifest.json") == first
    assert identity_hash(again.identity) == identity_hash(manifest.identity)


def test_the_verdict_of_an_engine_trial_stands_in_the_manifest_alone(folder, make_manifest):
    untried = make_manifest()
    assert "engine_trial" not in untried.to_json()
    trial = {"engine": {"precision": "bfloat16"}, "plain_seconds": 0.5, "rungs": []}
    write_manifest(folder, untried.model_copy(update={"engine_trial": trial}))
    again = read_manifest(folder)
    assert again.engine_trial == trial
    assert again.fingerprint() == untried.fingerprint()


def test_identity_hash():
    assert identity_hash({"a": 1, "b": {"c": 2.5e-5, "d": None}}) == identity_hash(
        json.loads('{"b": {"d": null, "c": 0.000025}, "a": 1}')
    )
    assert identity_hash({"a": 1}) != identity_hash({"a": 2})
    # Any language can compute it: SHA-256 of the text {"a":1,"b":[true,"ü"]}.
    assert identity_hash({"b": [True, "ü"], "a": 1}) == (
        "e9e0976f7eb3c0e72f9037eaf07b433eae8316c7840d4d07bf7a3fb8dd9d73c2"
    )


@pytest.mark.parametrize(
    "text",
    [b'{"a": [1, 2.5e-05, NaN, 1e400]}', b'"\\udc80"', b'\xef\xbb\xbf"x"', b"1" * 40, b"\xff", b""],
)
def test_json_is_read_as_json_reads_it(text):
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011 - whatever its text
            json_value(text)
    else:
        assert repr(json_value(text)) == repr(expected)


def edited(folder, edit):
    value = folder.read_json("manifest.json")
    edit(value)
    folder.write_json("manifest.json", value)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: m.update(format_version=FORMAT_VERSION + 1, new_key=1), "newer dfshield"),
        (lambda m: m.update(format_version="x"), "format_version"),
        (lambda m: m.update(image_dtype="float64"), "image_dtype"),
        (lambda m: m.pop("identity"), "identity"),
        (lambda m: m.update(suprise=1), "suprise"),
        (lambda m: m["class_names"].pop(), "2 class names for 3 classes"),
        (lambda m: m["parts"].pop(0), "must begin with batch 0"),
        (lambda m: m["parts"][0].update(num_images=3), "cannot hold 3 images"),
        (lambda m: m["parts"][0].update(split="test"), "parts: 0: split"),
        (lambda m: m["parts"][0].update(num_batches=-1), "parts: 0: num_batches"),
        (lambda m: m["parts"][0].update(more=1), "parts: 0: more"),
        (lambda m: m["parts"][1].update(index=0), "same name"),
    ],
)
def test_bad_manifests(folder, make_manifest, edit, message):
    write_manifest(folder, make_manifest())
    edited(folder, edit)
    with pytest.raises(InputError) as caught:
        read_manifest(folder)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{folder}/manifest.json: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"null", b"[" * 100_000])
def test_garbage_manifests(folder, data):
    folder.write_bytes("manifest.json", data)
    with pytest.raises(InputError, match=r"manifest\.json: not a") as caught:
        read_manifest(folder)
    assert "\n" not in str(caught.value)


def test_missing_manifest(folder):
    with pytest.raises(InputError, match=r"not a surrogate data set: it has no manifest\.json"):
        read_manifest(folder)


def test_covering(make_manifest):
    manifest = make_manifest()
    parts = manifest.split("data")
    assert manifest.covering("data") == parts
    for count, expected in [(0, 0), (1, 1), (8, 1), (9, 2), (24, 3)]:
        assert manifest.covering("data", count) == parts[:expected]
    for wrong in (25, -1):
        with pytest.raises(InputError, match=f"{wrong} images of 'data' wanted, but 24"):
            manifest.covering("data", wrong)


def test_part_is_hashable_and_frozen(make_manifest):
    part = make_manifest().parts[0]
    assert {part: 1}[Part(**asdict(part))] == 1
    with pytest.raises(FrozenInstanceError):
        part.index = 3
