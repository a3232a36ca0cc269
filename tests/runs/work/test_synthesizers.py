"""The synthesizers beside dss in the pipeline: columns, resuming, making again, what is refused."""

import json

import pyarrow.parquet as pq
import pytest
from tiny_run import call, contents, events, parts, run_of, succeed

from dfshield.storage import Folder, read_manifest
from dfshield.synthesis import SYNTHESIZERS
from dfshield.synthesis.intraq_descent import Descent

METHODS = {"intraq": {"iterations": 6, "crop_share": 0.3, "labels": "balanced"}}


def section(name):
    return {
        "method": {"name": name, **METHODS[name]},
        "num_images": 80,
        "num_holdout": 20,
        "batch_size": 20,
        "checkpoint_every": 4,
    }


@pytest.fixture(params=METHODS)
def made(request, tiny):
    """Name and configuration of a synthesis that is done."""
    config = tiny(keep=("teacher",), synthesis=section(request.param))
    succeed("synthesize", config)
    return request.param, config


def test_parts_have_the_columns_that_the_method_names_and_can_be_made_again(made):
    name, config = made
    run, columns = run_of(config), SYNTHESIZERS[name].columns
    manifest = read_manifest(Folder.at(run / "synthetic"))
    assert manifest.columns == dict(columns)
    assert manifest.engine["compiled"] is False
    for file in parts(run).values():
        table = pq.ParquetFile(file).read()
        assert set(columns) < set(table.column_names)
        pixels = b"".join(table["image"].to_pylist())
        assert len(set(table["image"].to_pylist())) == len(table)
        assert len(pixels) == 4 * 64 * len(table)
    again = json.loads(succeed("verify", run, "--resynthesize", 20, "--json").out)
    assert again[0]["resynthesis"]["ok"], again
    told = events(run, "part_committed")[0]
    losses = {key.replace("_total", "") for key in columns if key.startswith("loss_")}
    assert losses == {key for key in told if key.startswith("loss")}


def test_a_lost_part_is_made_again_alone(made):
    _, config = made
    run = run_of(config)
    expected = contents(run / "synthetic")
    parts(run)["data/shard=00000/part-0001.parquet"].unlink()
    succeed("synthesize", config)
    assert contents(run / "synthetic") == expected


@pytest.mark.parametrize("made", ["intraq"], indirect=True)
def test_a_part_of_intraq_goes_on_inside(made, tiny, monkeypatch):
    _, config = made
    other = tiny(keep=("teacher",), name="killed", synthesis=section("intraq"))
    step, taken = Descent.step, []

    def dying(self, iteration):
        taken.append(iteration)
        if len(taken) == 12:
            raise KeyboardInterrupt
        step(self, iteration)

    monkeypatch.setattr(Descent, "step", dying)
    assert call("synthesize", other).code == 130
    killed = run_of(other)
    assert list((killed / "synthetic" / "unfinished").iterdir())
    succeed("synthesize", other)
    assert taken[11:16] == [5, 2, 3, 4, 5]  # from the second batch's iteration 2, the part's 8th
    assert contents(killed / "synthetic") == contents(run_of(config) / "synthetic")


@pytest.mark.parametrize("name", METHODS)
def test_a_faster_way_that_there_is_not_is_refused(name, tiny):
    config = tiny(keep=("teacher",), synthesis=section(name))
    said = call("synthesize", config, "synthesis.engine.compile=true").refusal()
    assert f"synthesis.engine.compile: {name} is computed in float32 and is not compiled" in said
