"""Identities: what they list, and that runs of the previous release are recognised by them.

`previous_release` holds the records of a run that the release before identities left defaults out
has made, with every key, by the names of then.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_run import TINY, changed, run_of, succeed, write_config

from dfshield.attacks import make_attack
from dfshield.canonical import identity_hash
from dfshield.config import Config, load_config
from dfshield.config.defaults import defaults_for
from dfshield.config.teacher import TeacherConfig, TeacherTraining
from dfshield.config.training import TrainingConfig
from dfshield.runs import STAGES, Run
from dfshield.runs.driver.train import DEPENDS_ON as STUDENT
from dfshield.runs.identity import differences, filled, stripped
from dfshield.runs.inputs.teacher_source import DEPENDS_ON as TEACHER
from dfshield.runs.inputs.teacher_source import TRAINING
from dfshield.runs.records import claim
from dfshield.storage import Folder, SurrogateDataset

EXAMPLES = Path(__file__).parents[2] / "examples"
PREVIOUS = Path(__file__).parent / "previous_release"
SETTINGS = {
    "synthesis__num_images": 160,
    "synthesis__iterations": 60,
    "training__inner": {"steps": 20},
    "training__epochs": 3,
}
"""What that run was made with, beside `TINY`."""
FINGERPRINT = "f" * 64

# Whoever changes one of these disowns all finished runs of such a configuration: students, images
# and results are then refused or made again. A new option that is left out changes none of them.
DIGITS_IMAGES = {
    "teacher_fingerprint": FINGERPRINT,
    "seed": 0,
    "synthesis": {
        "method": {"iterations": 500, "jitter": 0, "labels": "random", "holdout": "fixed"}
    },
    "storage": {},
}
IDENTITIES = {
    "digits": (
        DIGITS_IMAGES,
        {
            "epochs": 20,
            "batch_size": 50,
            "learning_rate": 0.004,
            "gradrefine": {"num_batches": 4},
        },
    ),
    "cifar10-resnet20": (
        {
            "teacher_fingerprint": FINGERPRINT,
            "seed": 0,
            "synthesis": {"method": {"holdout": "fixed"}},
            "storage": {},
        },
        {"epochs": 200},
    ),
    "pneumonia": (
        {
            "teacher_fingerprint": FINGERPRINT,
            "seed": 0,
            "synthesis": {"method": {"iterations": 1000, "labels": "random", "holdout": "fixed"}},
            "storage": {},
        },
        {"epochs": 200},
    ),
}


def recorded(name):
    return json.loads((PREVIOUS / f"{name}.json").read_text())


@pytest.fixture
def previous(tmp_path):
    """The context of a run whose folder holds the records of the previous release."""
    config = write_config(tmp_path, **SETTINGS)
    for name in ("teacher", "synthetic", "student"):
        folder = run_of(config) / name
        folder.mkdir(parents=True)
        shutil.copy(PREVIOUS / f"{name}.json", folder / "stage.json")
    return Run(load_config(config)).context


@pytest.mark.parametrize("name", IDENTITIES)
def test_the_identities_of_the_examples(name, monkeypatch, tmp_path):
    monkeypatch.setenv("DFSHIELD_DATA", str(tmp_path))
    (tmp_path / "cifar10_resnet20.th").write_bytes(b"weights")
    config = load_config(EXAMPLES / f"{name}.yaml", [f"storage.path={tmp_path}"])
    context = Run(config).context
    teacher = STAGES["teacher"].identity(context, 0)
    Folder.at(context.layout.teacher.uri).write_json(
        "stage.json",
        {
            "format_version": 1,
            "identity": teacher,
            "done": True,
            "summary": {"fingerprint": FINGERPRINT},
        },
    )
    images, training = IDENTITIES[name]
    assert STAGES["synthesize"].identity(context, 0) == images
    student = STAGES["train"].identity(context, 0)
    assert student["surrogate"] == images
    assert student["training"] == training


@pytest.mark.parametrize("stage", ["teacher", "synthesize", "train"])
def test_a_stage_that_the_previous_release_has_done_is_done(previous, stage):
    folder = previous.layout.folder(stage, 0)
    before = folder.read_bytes("stage.json")
    assert claim(folder, STAGES[stage].identity(previous, 0))["done"]
    assert folder.read_bytes("stage.json") == before


@pytest.mark.parametrize(
    ("stage", "changes", "said"),
    [
        ("teacher", {"teacher__train__epochs": 3}, "teacher.train.epochs: 2 → 3"),
        ("synthesize", {"synthesis__jitter": 1}, "synthesis.method.jitter: 0 → 1"),
        ("train", {"training__gradrefine__tau": 0.25}, "training.gradrefine.tau: 0.5 → 0.25"),
        ("train", {"training__inner": {"loss": "ce"}}, "training.inner.loss: None → ce"),
    ],
)
def test_other_settings_than_those_of_the_previous_release_are_told(
    previous, tmp_path, stage, changes, said
):
    config = load_config(write_config(tmp_path, changed(TINY), **{**SETTINGS, **changes}))
    context = Run(config, layout=previous.layout).context
    record = previous.layout.folder(stage, 0).read_json("stage.json")
    if stage != "teacher":  # which the changes leave as it is
        assert said in differences(record["identity"], STAGES[stage].identity(context, 0))
    else:
        assert differences(record["identity"], STAGES[stage].identity(context, 0)) == [said]


def test_images_that_the_previous_release_has_begun_go_on_under_its_identity(tiny):
    config = tiny(keep=("teacher",), **SETTINGS)
    run = run_of(config)
    teacher = json.loads((run / "teacher" / "stage.json").read_text())["summary"]["fingerprint"]
    succeed("synthesize", config, "synthesis.method.holdout=alike")
    data = Folder.at(run / "synthetic")
    fresh = SurrogateDataset.open(data)
    images = fresh.load().images.numpy()
    identity = {**recorded("synthetic")["identity"], "teacher_fingerprint": teacher}
    assert identity != fresh.manifest.identity
    assert differences(identity, fresh.manifest.identity) == []

    for part in fresh.manifest.parts:
        data.delete(part.path)
    manifest = {**json.loads(data.read_bytes("manifest.json")), "identity": identity}
    data.write_json("manifest.json", manifest)
    data.write_json("stage.json", {"format_version": 1, "identity": identity, "done": False})
    succeed("synthesize", config)
    resumed = SurrogateDataset.open(data)
    assert resumed.manifest.identity == identity
    assert not resumed.problems()
    np.testing.assert_array_equal(resumed.load().images.numpy(), images)


def test_the_hash_that_parts_carry_is_what_it_was():
    """It is taken over what the manifest holds, and stands in every file of that data set."""
    manifest = recorded("manifest")
    told = "ee246a995fec545561da0257a5035572aa0278ac8a89a548faf5f8382cdb856c"
    assert identity_hash(manifest["identity"]) == told


def test_what_is_left_out_is_filled_in():
    whole = recorded("student")["identity"]
    assert len(json.dumps(stripped(whole))) < 0.6 * len(json.dumps(whole))
    assert filled(stripped(whole)) == filled(whole)


@pytest.mark.parametrize(
    ("section", "listed", "others"),
    [
        (TeacherConfig, TEACHER, {"weights", "train", "trust_python"}),
        (TeacherTraining, TRAINING, {"data"}),
        (TrainingConfig, STUDENT, {"data", "images", "checkpoint_every", "engine"}),
    ],
)
def test_every_key_is_listed_or_known_to_change_nothing(section, listed, others):
    assert set(section.model_fields) == set(listed) | others


def test_defaults_are_those_of_models_and_variants():
    found = defaults_for({"training": {"objective": {"name": "trades"}}, "threat": {}})
    assert found["training"]["objective"]["beta"] == 6.0
    assert "name" not in found["training"]["objective"]
    assert found["threat"] == Config.model_fields["threat"].default.model_dump(mode="json")


@pytest.mark.parametrize(
    ("attack", "slug"),
    [
        ("apgd-ce", "apgd-ce-linf-0.03137-e06eaef3"),
        ("apgd-dlr", "apgd-dlr-linf-0.03137-5ba0358c"),
        ("apgd-t", "apgd-t-linf-0.03137-e0900e21"),
        ("autoattack", "autoattack-linf-0.03137-ce39f4c6"),
    ],
)
def test_results_are_called_what_the_previous_release_called_them(attack, slug):
    assert make_attack(attack, eps="8/255").slug == slug
