"""The synthesizers beside dss in the pipeline: columns, resuming, making again, what is refused."""

import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from tiny_run import call, contents, events, parts, run_of, stamps, succeed

from dfshield.runs.work.canary import ITERATIONS
from dfshield.storage import Folder, read_manifest
from dfshield.synthesis import SYNTHESIZERS, NetworkFit
from dfshield.synthesis.intraq_descent import Descent
from dfshield.synthesis.qimera import QimeraSampler

METHODS = {
    "intraq": {"iterations": 6, "crop_share": 0.3, "labels": "balanced"},
    "qimera": {"fit_iterations": 6, "fit_batch_size": 12, "width": 4},
    "rdskd": {"epochs": 2, "iterations_per_epoch": 3, "fit_batch_size": 12, "width": 4},
}
GENERATORS = [name for name in METHODS if name != "intraq"]


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
        if len(taken) == ITERATIONS + 12:  # those of the canary come first
            raise KeyboardInterrupt
        step(self, iteration)

    monkeypatch.setattr(Descent, "step", dying)
    assert call("synthesize", other).code == 130
    killed = run_of(other)
    assert list((killed / "synthetic" / "unfinished").iterdir())
    succeed("synthesize", other)
    killed_at, *later = taken[ITERATIONS + 11 :]
    canary, resumed = later[:ITERATIONS], later[ITERATIONS:]
    assert (killed_at, canary) == (5, list(range(ITERATIONS)))
    assert resumed[:4] == [2, 3, 4, 5]  # from the second batch's iteration 2, the part's 8th
    assert contents(killed / "synthetic") == contents(run_of(config) / "synthetic")


@pytest.mark.parametrize("name", GENERATORS)
def test_a_fit_that_was_killed_goes_on_and_gives_the_same_bytes(name, tiny, monkeypatch):
    configs = [tiny(keep=("teacher",), name=n, synthesis=section(name)) for n in ("whole", "cut")]
    succeed("synthesize", configs[0])
    losses, taken = NetworkFit.step, []

    def dying(self):
        taken.append(self.steps_done)
        if len(taken) == 6:
            raise KeyboardInterrupt
        return losses(self)

    monkeypatch.setattr(NetworkFit, "step", dying)
    assert call("synthesize", configs[1]).code == 130
    succeed("synthesize", configs[1])
    assert taken == [0, 1, 2, 3, 4, 5, 4, 5]  # a checkpoint of 4 steps had been kept
    whole, cut = (contents(run_of(config) / "synthetic") for config in configs)
    assert cut == whole


def test_a_collapse_is_said_with_its_batch_and_what_was_committed_stays(tiny, monkeypatch):
    config = tiny(keep=("teacher",), synthesis=section("qimera"))
    sampled = QimeraSampler._sampled

    def falling(self, draw, *, stream, batch, size):
        made = sampled(self, draw, stream=stream, batch=batch, size=size)
        return replace(made, images=made.images * (batch != 3))

    monkeypatch.setattr(QimeraSampler, "_sampled", falling)
    said = call("synthesize", config).refusal(3)
    assert "batch 3: the generator has collapsed: all 20 images are equal" in said
    run = run_of(config)
    assert list(parts(run)) == ["data/shard=00000/part-0000.parquet", "holdout/part-0000.parquet"]
    before = stamps(run / "synthetic" / "data")
    monkeypatch.setattr(QimeraSampler, "_sampled", sampled)
    succeed("synthesize", config)
    assert before.items() <= stamps(run / "synthetic" / "data").items()


@pytest.mark.parametrize("name", METHODS)
def test_a_faster_way_that_there_is_not_is_refused(name, tiny):
    config = tiny(keep=("teacher",), synthesis=section(name))
    said = call("synthesize", config, "synthesis.engine.compile=true").refusal()
    assert f"synthesis.engine.compile: {name} is computed in float32 and is not compiled" in said
