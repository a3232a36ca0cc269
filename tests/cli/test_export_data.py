"""`dfshield export-data`: sources and destinations, and what is refused."""

import json

import numpy as np
import pytest
from random_sets import random_manifest, write_random_set
from s3_server import BUCKET
from tiny_run import call, contents, succeed

from dfshield.storage import Folder

FORMATS = {"hf": "out", "ray": "out", "npz": "out.npz"}


@pytest.fixture
def stored(tmp_path):
    """A bare data set."""
    folder = Folder.at(tmp_path / "set")
    write_random_set(folder, random_manifest(image_dtype="uint8", image_shape=(3, 5, 4)))
    return tmp_path / "set"


@pytest.fixture
def several(tmp_path):
    """A run of two seeds."""
    for seed in (0, 3):
        folder = Folder.at(tmp_path / "several" / f"seed-{seed}" / "synthetic")
        write_random_set(folder, random_manifest(seed=seed, num_images=8 * (seed + 1)))
    return tmp_path / "several"


def test_it_says_what_was_written_and_how_far_it_is(stored, tmp_path):
    answer = succeed("export-data", stored, "--to", "hf", "--out", tmp_path / "out")
    assert answer.out == f"{tmp_path}/out: 24 in train, 5 in holdout; uint8 images of {stored}\n"
    assert "Exporting: 0/29 images" in answer.err
    assert "Exporting: done in" in answer.err
    answer = succeed("export-data", stored, "--to", "npz", "--out", tmp_path / "a.npz", "--json")
    assert json.loads(answer.out)["splits"] == {"train": 24, "holdout": 5}


def test_of_several_seeds_one_is_chosen(several, tmp_path):
    export = ("export-data", several, "--to", "npz", "--out", tmp_path / "a.npz")
    assert "images of the seeds 0, 3: choose one" in call(*export).refusal()
    assert "--seed: 1 has no images" in call(*export, "--seed", 1).refusal()
    answer = succeed(*export, "--seed", 3, "--json")
    assert json.loads(answer.out)["splits"]["train"] == 32
    assert json.loads(answer.out)["source"].endswith("seed-3/synthetic")


@pytest.mark.parametrize("to", FORMATS)
def test_what_is_there_stays(stored, tmp_path, to):
    out = tmp_path / FORMATS[to]
    if to == "npz":
        out.write_bytes(b"mine")
    else:
        out.mkdir()
    line = call("export-data", stored, "--to", to, "--out", out).refusal()
    assert f"--out: {out}: exists already" in line
    assert out.is_dir() or out.read_bytes() == b"mine"


def test_what_is_wrong_is_said_in_one_line(stored, tmp_path):
    def refusal(location, to, out):
        return call("export-data", location, "--to", to, "--out", out).refusal()

    assert "--to: 'nzp' is unknown" in refusal(stored, "nzp", "x.npz")
    assert "--out: images must name an .npz file" in refusal(stored, "npz", "images")
    assert "no surrogate data set here" in refusal(tmp_path / "none", "hf", "x")
    (tmp_path / "file").touch()
    assert "a part of the path is a file" in refusal(stored, "hf", tmp_path / "file" / "x")
    assert "--out: an empty path" in refusal(stored, "hf", "")


@pytest.mark.parametrize("to", FORMATS)
def test_stores_are_read_and_written(stored, tmp_path, s3, to):
    here, name = tmp_path / FORMATS[to], FORMATS[to]
    succeed("export-data", stored, "--to", to, "--out", here)
    away = Folder.at(f"s3://{BUCKET}/away?region=us-east-1")
    for file, content in contents(stored).items():
        away.write_bytes(file, content)
    there = f"s3://{BUCKET}/exports/{name}?region=us-east-1"
    succeed("export-data", away.uri, "--to", to, "--out", there)
    exports = Folder.at(f"s3://{BUCKET}/exports?region=us-east-1")
    stem = name if to == "npz" else f"{name}/"
    found = {file: exports.read_bytes(file) for file in exports.list()}
    wanted = (
        {name: here.read_bytes()}
        if to == "npz"
        else {f"{stem}{file}": content for file, content in contents(here).items()}
    )
    assert found == wanted
    assert "exists already" in call("export-data", stored, "--to", to, "--out", there).refusal()


def test_a_store_keeps_nothing_of_an_export_that_failed(stored, s3):
    holdout = next(stored.glob("holdout/*.parquet"))
    holdout.write_bytes(holdout.read_bytes()[:-10])
    for to, name in FORMATS.items():
        out = f"s3://{BUCKET}/exports/{name}?region=us-east-1"
        assert "truncated or damaged" in call(
            "export-data", stored, "--to", to, "--out", out
        ).refusal(code=3)
    assert Folder.at(f"s3://{BUCKET}/exports?region=us-east-1").list() == []


def test_a_full_disk_is_said_in_one_line(stored, small_disk):
    write_random_set(
        Folder.at(stored.parent / "large"),
        random_manifest(image_shape=(3, 64, 64), num_images=48, part_size=8),
    )
    for to, name in FORMATS.items():
        out = small_disk / name
        line = call("export-data", stored.parent / "large", "--to", to, "--out", out).refusal()
        assert "No space left on device" in line
        assert list(small_disk.iterdir()) == []


def test_ctrl_c_leaves_nothing(stored, tmp_path, monkeypatch):
    from dfshield.runs.export import source

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(source, "encode_images", interrupt)
    answer = call("export-data", stored, "--to", "hf", "--out", tmp_path / "out", "--uint8")
    assert answer.code == 130
    assert "Stopped; nothing was written" in answer.err
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_names_of_classes_come_along(stored, tmp_path):
    succeed("export-data", stored, "--to", "npz", "--out", tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as archive:
        assert archive["class_names"][2] == "Äffle"
