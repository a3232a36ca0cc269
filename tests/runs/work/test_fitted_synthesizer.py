"""A synthesizer that is registered from outside, with a generator that is fitted first."""

import hashlib
import json

import jsonschema
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
import yaml
from linear_generator import LinearFit, LinearGenerator
from tiny_run import call, contents, events, parts, run_of, stamps, succeed

from dfshield.config import Config, load_config
from dfshield.runs.work.generator import WEIGHTS, fingerprint_of
from dfshield.storage import Folder, read_manifest
from dfshield.synthesis import SYNTHESIZERS

STEPS = 30
SECTION = {
    "method": {"name": "linear", "steps": STEPS},
    "num_images": 80,
    "num_holdout": 20,
    "batch_size": 20,
    "checkpoint_every": 8,
}


@pytest.fixture(autouse=True)
def registered():
    SYNTHESIZERS.register(LinearGenerator)
    yield
    del SYNTHESIZERS._variants[LinearGenerator.name]


@pytest.fixture
def config(tiny):
    return tiny(keep=("teacher",), synthesis=SECTION)


def generator_of(run):
    return run / "synthetic" / "generator"


def test_the_configuration_and_its_schema_know_it(config):
    method = load_config(config, ["synthesis.method.latent=3"]).synthesis.method
    assert method.model_dump() == {
        "name": "linear",
        "steps": STEPS,
        "latent": 3,
        "learning_rate": 0.1,
    }
    said = call("synthesize", config, "synthesis.method.step=3").refusal()
    assert "synthesis.method.step: is no option of linear: did you mean 'steps'?" in said
    assert "synthesis.method.steps: 0 must be" in (
        call("synthesize", config, "synthesis.method.steps=0").refusal()
    )
    schema = json.loads(json.dumps(Config.model_json_schema()))
    jsonschema.validate(yaml.safe_load(config.read_text()), schema)
    method = schema["$defs"]["SynthesisConfig"]["properties"]["method"]
    kinds = [rule["then"] for rule in method["else"]["allOf"]]
    (variant,) = [kind for kind in kinds if kind["properties"]["name"] == {"const": "linear"}]
    assert variant["description"].startswith("Samples of one linear map per class")
    assert variant["properties"]["latent"]["default"] == 4


def test_a_run_fits_once_samples_and_says_so_everywhere(config):
    run = run_of(config)
    assert json.loads(succeed("synthesize", config, "--plan", "--json").out)["units"] == 3
    assert not generator_of(run).exists()
    succeed("run", config)

    assert {file.name for file in generator_of(run).iterdir()} == {"fit.json", WEIGHTS}
    record = json.loads((generator_of(run) / "fit.json").read_text())
    assert [point["step"] for point in record["losses"]] == list(range(1, STEPS + 1))
    assert record["losses"][-1]["loss"] < 0.7 * record["losses"][0]["loss"]
    manifest = read_manifest(Folder.at(run / "synthetic"))
    assert (
        manifest.generator == record["fingerprint"] == fingerprint_of(Folder.at(run / "synthetic"))
    )
    assert manifest.format_version == 2
    assert manifest.columns == LinearGenerator.columns
    # Its options are at their defaults, which an identity leaves out.
    assert manifest.identity["synthesis"] == {"batch_size": 20, "method": {"name": "linear"}}

    for file, told in zip(parts(run).values(), events(run, "part_committed"), strict=True):
        table = pq.ParquetFile(file).read()
        assert table.schema.metadata[b"dfshield.generator"].decode() == record["fingerprint"]
        assert {"radius", "loss_class"} < set(table.column_names)
        assert len(set(table["radius"].to_pylist())) == len(table)  # one value per image
        assert told["loss_class"] == pytest.approx(table["loss_class"].to_numpy().mean())
        assert "loss_tv" not in told
    assert len(events(run, "fit_step")) == STEPS

    state = json.loads(succeed("status", run, "--json").out)["seeds"][0]["synthesize"]
    assert (state["state"], state["images_done"]) == ("done", 100)
    assert (state["generator"]["steps"], state["generator"]["steps_done"]) == (STEPS, STEPS)
    page = (run / "report" / "index.html").read_text()
    for text in (
        "linear: Samples of one linear map",
        "<dt>Latent</dt><dd>4</dd>",
        manifest.generator[:12],
    ):
        assert text in page
    card = (run / "student" / "README.md").read_text()
    assert "made by linear (steps: 30; latent: 4" in card

    before = stamps(run / "synthetic")
    succeed("run", config)
    assert stamps(run / "synthetic") == before
    again = json.loads(succeed("verify", run, "--resynthesize", 20, "--json").out)
    assert again[0]["resynthesis"]["ok"], again


def test_a_fit_that_was_killed_goes_on_and_gives_the_same_bytes(config, tiny, monkeypatch):
    succeed("synthesize", config)
    run, other = run_of(config), tiny(keep=("teacher",), name="killed", synthesis=SECTION)
    step, taken = LinearFit.step, []

    def dying(self):
        taken.append(self.steps_done)
        if len(taken) == 20:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(LinearFit, "step", dying)
    assert call("synthesize", other).code == 130
    killed = run_of(other)
    assert not parts(killed)
    assert {file.name for file in generator_of(killed).iterdir()} == {"checkpoint.pt"}
    shown = json.loads(succeed("status", killed, "--json").out)["seeds"][0]["synthesize"]
    assert (shown["state"], shown["generator"]["steps_done"]) == ("begun", 19)
    assert "generator: 19/30 steps" in succeed("status", killed).out
    succeed("synthesize", other)
    assert taken[20:] == list(range(16, STEPS))  # two checkpoints of 8 steps had been kept
    assert contents(killed / "synthetic") == contents(run / "synthetic")


def test_a_part_is_sampled_again_without_a_fit_and_a_lost_generator_is_fitted_again(config):
    succeed("synthesize", config)
    run = run_of(config)
    expected, fitted = contents(run / "synthetic"), stamps(generator_of(run))
    parts(run)["data/shard=00000/part-0001.parquet"].unlink()
    succeed("synthesize", config)
    assert contents(run / "synthetic") == expected
    assert stamps(generator_of(run)) == fitted

    weights = generator_of(run) / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert "altered" in call("verify", run, "--resynthesize", 5).refusal()
    parts(run)["holdout/part-0000.parquet"].unlink()
    succeed("synthesize", config)
    assert contents(run / "synthetic") == expected


def test_parts_of_two_generators_are_not_mixed(config):
    succeed("synthesize", config)
    run = run_of(config)
    folder, record = generator_of(run), json.loads((generator_of(run) / "fit.json").read_text())
    weights = safetensors.torch.load_file(folder / WEIGHTS)
    safetensors.torch.save_file({k: v + 1 for k, v in weights.items()}, folder / WEIGHTS)
    record["fingerprint"] = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    (folder / "fit.json").write_text(json.dumps(record))
    parts(run)["holdout/part-0000.parquet"].unlink()
    before = contents(run / "synthetic")
    said = call("synthesize", config).refusal()
    assert f"holds {record['fingerprint'][:12]}: restore it" in said
    assert contents(run / "synthetic") == before


def test_a_generator_that_makes_no_images_fails_with_the_batch_named(config, monkeypatch):
    weights = LinearFit.weights
    broken = {"map": torch.tensor(torch.nan), "bias": torch.tensor(torch.nan)}
    monkeypatch.setattr(
        LinearFit, "weights", lambda s: {k: v + broken[k] for k, v in weights(s).items()}
    )
    assert "batch 0: the synthesizer made pixels that are not finite" in call(
        "synthesize", config
    ).refusal(3)


def test_a_fit_that_diverges_is_said_with_its_step(config, monkeypatch):
    monkeypatch.setattr(LinearFit, "step", lambda self: {"loss": float(torch.tensor(torch.nan))})
    assert "of the fit of the generator: loss is nan" in call("synthesize", config).refusal(3)
