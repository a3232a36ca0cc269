"""Surrogate data sets that are derived from another one by an augmentation."""

import json
import re
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tiny_run import call, contents, parts, run_of, stamps, succeed

from dfshield.classifiers import load
from dfshield.config import config_from
from dfshield.errors import InputError
from dfshield.runs.inputs.surrogate_sets import surrogate_sets
from dfshield.storage import Folder, SurrogateDataset, read_manifest
from dfshield.synthesis.augmentations import AUGMENTATIONS, MixupSet


@pytest.fixture
def derived(finished, tiny):
    """A function that gives the configuration of a set that is derived from the finished run's."""

    def make(augment, *, data=None, name="derived", **changes):
        section = {
            "augment": augment,
            "data": str(data or run_of(finished / "tiny.yaml")),
            "num_images": 80,
            "num_holdout": 20,
            "batch_size": 20,
            **changes,
        }
        return tiny(keep=("teacher",), name=name, synthesis=section)

    return make


def source_of(config):
    manifest = read_manifest(Folder.at(run_of(config) / "synthetic"))
    return SurrogateDataset.open(manifest.source)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_set_is_made_of_another_one(name, derived):
    config = derived(name)
    succeed("synthesize", config)
    run = run_of(config)
    data, source = SurrogateDataset.open(run / "synthetic"), source_of(config)
    manifest = data.manifest
    assert manifest.columns == dict(AUGMENTATIONS[name].columns)
    assert manifest.identity["synthesis"]["augment"]["name"] == name
    assert manifest.identity["surrogate"] == source.manifest.identity
    assert manifest.identity["surrogate_fingerprint"] == source.manifest.fingerprint()
    teacher = load(run / "teacher")
    for split in ("data", "holdout"):
        made, old = data.load(split), source.load(split)
        with torch.no_grad():
            torch.testing.assert_close(made.teacher_logits, teacher(made.images))
        assert not torch.equal(made.images, old.images)
    again = json.loads(succeed("verify", run, "--resynthesize", 20, "--json").out)
    assert again[0]["resynthesis"]["ok"], again


@pytest.mark.parametrize("split", ["data", "holdout"])
def test_image_i_is_made_of_image_i_and_a_partner_of_the_same_split(derived, split):
    config = derived("mixup")
    succeed("synthesize", config)
    old = source_of(config).load(split)
    made = SurrogateDataset.open(run_of(config) / "synthetic").load(split)
    files = [file for name, file in parts(run_of(config)).items() if name.startswith(split)]
    tables = [pq.ParquetFile(file).read() for file in files]
    mix, partner = (
        torch.from_numpy(np.concatenate([table[name].to_numpy() for table in tables]))
        for name in ("mix", "partner")
    )
    weight = mix.float()[:, None, None, None]
    expected = weight * old.images + (1 - weight) * old.images[partner]
    torch.testing.assert_close(made.images, expected, atol=1e-6, rtol=0)
    assert torch.equal(made.labels, torch.where(mix >= 0.5, old.labels, old.labels[partner]))
    assert len(partner.unique()) > len(partner) / 4


def test_a_run_on_a_derived_set_says_so_everywhere_and_stays_finished(derived):
    config = derived({"name": "mixup", "alpha": 2.0})
    succeed("run", config)
    run = run_of(config)
    page = (run / "report" / "index.html").read_text()
    for text in ("mixup: Weighted means of two images", "<dt>Applied to</dt><dd>dss</dd>"):
        assert text in page
    assert "made by mixup (alpha: 2" in (run / "student" / "README.md").read_text()
    (one,) = surrogate_sets([str(run)])
    assert (one.method, one.diversified) == ("mixup of dss", False)
    before = stamps(run / "synthetic"), stamps(run / "student")
    succeed("run", config)
    assert (stamps(run / "synthetic"), {**stamps(run / "student"), **before[1]}) == before
    said = call("run", config, "synthesis.augment.alpha=1.0").refusal()
    assert re.search(r"synthesis\.augment\.alpha: 2(\.0)? → 1", said)


def test_what_was_interrupted_gives_the_same_bytes_and_a_lost_part_is_made_alone(
    derived, monkeypatch
):
    config, other = derived("mixup"), derived("mixup", name="cut")
    succeed("synthesize", config)
    changed, done = MixupSet._changed, []

    def dying(self, *arguments):
        done.append(1)
        if len(done) == 5:  # of which the canary is one
            raise KeyboardInterrupt
        return changed(self, *arguments)

    monkeypatch.setattr(MixupSet, "_changed", dying)
    assert call("synthesize", other).code == 130
    assert len(parts(run_of(other))) == 1
    succeed("synthesize", other)
    expected = contents(run_of(config) / "synthetic")
    assert contents(run_of(other) / "synthetic") == expected
    parts(run_of(other))["data/shard=00000/part-0000.parquet"].unlink()
    succeed("synthesize", other)
    assert contents(run_of(other) / "synthetic") == expected


def test_batches_and_parts_need_not_be_those_of_the_other_set(derived):
    config = derived("cutout", batch_size=40, num_images=80, num_holdout=15)
    succeed("synthesize", config)
    data, source = SurrogateDataset.open(run_of(config) / "synthetic"), source_of(config)
    for split, size in (("data", 80), ("holdout", 15)):
        made, old = data.load(split).images, source.load(split, num_images=size).images
        kept = made != 0
        assert torch.equal(made[kept], old[kept])
        assert 0.7 < kept.sum() / (old != 0).sum() < 0.95


def test_a_set_that_changes_is_another_one(derived, finished, tmp_path):
    shutil.copytree(run_of(finished / "tiny.yaml") / "synthetic", tmp_path / "moved")
    config = derived("cutout", data=tmp_path / "moved")
    succeed("synthesize", config)
    shutil.copytree(tmp_path / "moved", tmp_path / "again")  # the place is no part of it
    succeed("synthesize", config, f"synthesis.data={tmp_path / 'again'}")
    file = tmp_path / "moved" / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["engine"]["threads"] = 64
    file.write_text(json.dumps(manifest))
    assert "surrogate_fingerprint: " in call("synthesize", config).refusal()


def altered(folder, **changes):
    file = folder / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_sets_that_cannot_be_taken_are_refused_in_one_line(derived, finished, tmp_path):
    source = run_of(finished / "tiny.yaml") / "synthetic"
    for name in ("foreign", "short"):
        shutil.copytree(source, tmp_path / name)
    altered(tmp_path / "foreign", teacher_fingerprint="0" * 64)
    (tmp_path / "short" / "data" / "shard=00000" / "part-0001.parquet").unlink()
    refused = {
        f"{tmp_path / 'foreign'} was made from another teacher": {"data": tmp_path / "foreign"},
        "is not complete (1 of 3 parts are missing)": {"data": tmp_path / "short"},
        "synthesis.data: ": {"data": tmp_path / "nothing"},
        "synthesis.num_images: 160 wanted": {"num_images": 160},
        "synthesis.num_holdout: 30 wanted": {"num_holdout": 30},
    }
    for number, (said, changes) in enumerate(refused.items()):
        config = derived("mixup", name=str(number), **changes)
        assert said in call("synthesize", config).refusal()
        assert not (run_of(config) / "synthetic").exists()


def test_a_sweep_makes_the_sets_that_its_augmentations_change(derived, tiny):
    mixed = {"synthesis": {"augment": "mixup", "data": "method"}}
    fixed = {"synthesis": {**mixed["synthesis"], "method": {"coefficients": {"rule": "fixed"}}}}
    cases = {"plain": {}, "mixed": mixed, "fixed-mixed": fixed}
    config = tiny(keep=("teacher",), name="cells", sweep={"cases": {"images": cases}})
    records = json.loads(succeed("sweep", config, "--json").out)["trials"]
    assert [record["state"] for record in records] == ["done"] * 3
    run = run_of(config)
    sets = [run / "synthetic", *run.glob("sweeps/*/sets/*/synthetic")]
    made = {path.as_uri(): SurrogateDataset.open(path) for path in sets}
    assert len(made) == 4  # the run's own, one of fixed coefficients, and one changed of each
    changed = [data for data in made.values() if data.manifest.source is not None]
    assert {data.manifest.source for data in changed} == {
        path for path, data in made.items() if data.manifest.source is None
    }
    (of_own,) = [data for data in changed if data.manifest.source == sets[0].as_uri()]
    alone = derived("mixup", data=run, name="alone")
    succeed("synthesize", alone)
    again = SurrogateDataset.open(run_of(alone) / "synthetic")
    assert torch.equal(again.load("data").images, of_own.load("data").images)
    before = {path: stamps(path) for path in sets}
    succeed("sweep", config)
    assert {path: stamps(path) for path in before} == before


def test_outside_a_sweep_the_set_of_the_method_is_none(derived):
    said = call("synthesize", derived("mixup", data="method")).refusal()
    assert "synthesis.data: method is for sweeps" in said


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"augment": "mixup"}, "synthesis.data: name the set"),
        ({"data": "runs/other"}, "synthesis.augment: say how"),
        ({"augment": "mixop", "data": "x"}, "did you mean 'mixup'"),
        ({"augment": {"name": "cutout", "sides": 3}, "data": "x"}, "did you mean 'side'"),
    ],
)
def test_sections_that_do_not_fit_are_refused(section, said):
    teacher = {"source": "dfshield:resnet8", "input_shape": [1, 8, 8], "weights": "w.pt"}
    with pytest.raises(InputError, match=said):
        config_from({"name": "x", "teacher": teacher, "synthesis": section})
