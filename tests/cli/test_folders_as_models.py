"""Run, student, teacher and published folders wherever a model is named."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from s3_server import BUCKET
from tiny_run import call, contents, hardening, succeed, write_config

import dfshield
from dfshield.classifiers import build, load, save
from dfshield.errors import InputError
from dfshield.storage import Folder

FGSM = "evaluation.attacks=[{name: fgsm}]"
DATA = ("--data", "digits", "--num-images", 30, "--eps", "0.1", FGSM)


def published(run, name="hub"):
    """A folder as a hub keeps one: links to files elsewhere, and no run around it."""
    blobs, folder = run.parents[1] / "blobs", run.parents[1] / name / "digits-robust"
    blobs.mkdir()
    folder.mkdir(parents=True)
    for index, file in enumerate(("model.safetensors", "config.json", "README.md")):
        shutil.copy(run / "student" / file, blobs / str(index))
        (folder / file).symlink_to(blobs / str(index))
    return folder


def test_every_spelling_of_a_folder_is_the_same_model(run, tmp_path):
    student = load(run / "student").fingerprint()
    (tmp_path / "best").symlink_to(run / "student")
    (tmp_path / "linked-run").symlink_to(run)
    spellings = ("runs/tiny", "runs/tiny/", "./runs/tiny/student", "~/runs/tiny", "best")
    for spelling in (*spellings, "linked-run/", run, run.as_uri(), f"{run.as_uri()}/student/"):
        assert dfshield.load(spelling).fingerprint() == student
    assert dfshield.load(run / "teacher").fingerprint() == load(run / "teacher").fingerprint()
    for spelling in (*spellings, run.as_uri()):
        succeed("teacher", hardening(tmp_path / "again", spelling))  # one identity
    kept = tmp_path / "again/runs/tiny/teacher"
    assert contents(kept)["model.safetensors"] == contents(run / "student")["model.safetensors"]


def test_a_students_folder_is_evaluated_as_the_run_did(run):
    ours = json.loads(succeed("evaluate", run_of_config(run), FGSM, "--json").out)["results"]
    by_model = {(r["model"], r["label"]): r for r in ours}
    for folder, name in (("runs/tiny", "student"), ("runs/tiny/teacher/", "teacher")):
        options = ("--data", "digits", "--num-images", 40, "--eps", "0.1", FGSM)
        answer = json.loads(succeed("evaluate", "--model", folder, *options, "--json").out)
        assert answer["folder"].endswith(f"evaluations/tiny-{name}/evaluation")
        for result in answer["results"]:
            expected = by_model[name, result["label"]]
            for key in ("model_fingerprint", "num_correct", "max_perturbation"):
                assert result[key] == expected[key]


def run_of_config(run):
    """The configuration that a run folder holds, with its runs where they are now."""
    tree = yaml.safe_load((run / "config.yaml").read_text())
    tree["storage"]["path"] = str(run.parent)
    path = run.parents[1] / "tiny.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def test_a_published_folder_is_attacked_from_a_run(run):
    folder = published(run)
    attack = "evaluation.attacks=[{name: transfer, num_steps: 2}]"
    options = ("--surrogate", "runs/tiny/", *DATA[:-1], attack, "--json")
    answer = json.loads(succeed("evaluate", "--model", folder, *options).out)
    assert answer["folder"].endswith("evaluations/digits-robust/evaluation")
    student = load(run / "student").fingerprint()
    assert [r["attack"] and r["attack"]["source"] for r in answer["results"]] == [None, student]


def test_transferred_attacks_take_the_model_that_they_name(run):
    config = run_of_config(run)
    other = published(run)

    def transferred(*source):
        attack = {"name": "transfer", "num_steps": 2} | dict(source)
        given = f"evaluation.attacks=[{json.dumps(attack)}]"
        results = json.loads(succeed("evaluate", config, given, "--json").out)["results"]
        return {r["model"]: r["attack"]["source"] for r in results if r["attack"]}

    student, teacher = (dfshield.load(run / name).fingerprint() for name in ("student", "teacher"))
    assert transferred() == {"teacher": student, "student": teacher}
    assert transferred(("source", str(other))) == {"teacher": student, "student": student}
    for source, said in (("nowhere", "no such folder"), (3, "must be the folder of a classifier")):
        given = f"evaluation.attacks=[{{name: transfer, source: {source}}}]"
        line = call("evaluate", config, given).refusal()
        assert "evaluation.attacks.0.source: " in line
        assert said in line


def test_the_names_of_the_folder_are_those_of_its_classes(run, tmp_path):
    names = ("nought", "one", "two", "three")
    model = build(
        "dfshield:resnet8", input_shape=(1, 8, 8), class_names=names, options={"width": 2}
    )
    save(model, tmp_path / "four")
    line = call("evaluate", "--model", "four", *DATA).refusal()
    assert "digits has 10 classes" in line
    assert "the classifier has 4" in line


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("runs/none", "runs/none: no such folder"),
        ("runs/tiny/synthetic", "model.safetensors and config.json"),
        (".", "a run folder, which has one in student/"),
        ("runs/tiny/student/model.safetensors", "is a file: name the folder that holds it"),
        ("runs/begun", "is a run that has no student yet"),
        ("runs/seeds", "runs/seeds/seed-0/student, "),
        ("hf", "has no format_version, so dfshield did not write it"),
        ("half", "half/config.json: no such file"),
        ("resnet8", 'a model is named by "family:name"'),
        ("$NO_SUCH_PLACE/x", "NO_SUCH_PLACE"),
        ("~nobody-here/x", "nobody-here"),
        ("nowhere://bucket/x", "nowhere://bucket"),
    ],
)
def test_what_is_no_model_is_one_line_at_every_door(run, tmp_path, source, said):
    (tmp_path / "runs/begun").mkdir()
    for name in ("config.yaml", "teacher"):
        copy = shutil.copytree if (run / name).is_dir() else shutil.copy
        copy(run / name, tmp_path / "runs/begun" / name)
    seeds = tmp_path / "runs/seeds"
    for seed in (0, 1):
        shutil.copytree(run / "student", seeds / f"seed-{seed}" / "student")
    shutil.copy(run / "config.yaml", seeds)
    for name in ("hf", "half"):
        (tmp_path / name).mkdir()
        shutil.copy(run / "student/model.safetensors", tmp_path / name)
    (tmp_path / "hf/config.json").write_text('{"architectures": ["ResNetForImageClassification"]}')
    config = hardening(tmp_path / "again", source)
    for line in (
        call("run", config).refusal(),
        call("evaluate", "--model", source, *DATA).refusal(),
        call("audit", "--model", source, *DATA[:-1]).refusal(),
    ):
        assert said in line
    doctor = call("doctor", config, "--json")
    assert doctor.code == 3
    assert any(said in check["told"] for check in json.loads(doctor.out))
    if "$" not in source and source != "resnet8":
        with pytest.raises(InputError) as caught:
            dfshield.load(source)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "again/runs/tiny/teacher").exists()
    assert dfshield.load(seeds / "seed-1").num_classes == 10


FACTORY = """
from torch import nn

def make(width=4):
    return nn.Sequential(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten(),
                         nn.Linear(36 * width, 10))
"""


def test_a_factory_is_called_where_it_is_trusted(run, tmp_path, monkeypatch):
    (tmp_path / "trusted_nets.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(tmp_path)
    where = {"input_shape": (1, 8, 8), "num_classes": 10, "options": {"width": 3}}
    save(build("python:trusted_nets:make", **where), tmp_path / "own")
    config = hardening(tmp_path / "again", "own", evaluation__num_images=20)
    attack = "evaluation.attacks=[{name: transfer, source: own}]"
    doors = (
        ("teacher", config),
        ("evaluate", "--model", "own", *DATA),
        ("evaluate", "--model", "runs/tiny", "--surrogate", "own", *DATA),
        ("evaluate", run_of_config(run), attack),
    )
    for door in doors:
        line = call(*door).refusal()
        assert "it calls trusted_nets:make to build the classifier" in line
        assert "--trust-python" in line
    for door in doors:
        succeed(*door, "--trust-python")
    succeed("teacher", config)  # what has been trusted lies in the run folder
    with pytest.raises(InputError, match="trust_python=True"):
        dfshield.load("own")
    assert dfshield.load("own", trust_python=True).num_classes == 10
    # A configuration that names the factory itself, with its options, has said enough.
    named = {"source": "python:trusted_nets:make", "options": {"width": 3}, "weights": "own"}
    succeed("teacher", write_config(tmp_path / "named", teacher=named))
    line = call("teacher", write_config(tmp_path / "other", teacher={**named, "options": {}}))
    assert "--trust-python" in line.refusal()


def test_a_folder_on_a_store_is_a_model(run, tmp_path, s3):
    stored = Folder.at(f"s3://{BUCKET}/runs/tiny")
    for name, content in contents(run).items():
        if name.startswith(("student/", "config.yaml")):
            stored.write_bytes(name, content)
    assert dfshield.load(stored.uri).fingerprint() == load(run / "student").fingerprint()
    answer = succeed("evaluate", "--model", f"{stored.uri}/", *DATA, "--json")
    assert json.loads(answer.out)["folder"].endswith("/tiny-student/evaluation")
    succeed("teacher", hardening(tmp_path / "again", stored.uri))
    succeed("teacher", hardening(tmp_path / "again", "runs/tiny"))
    line = call("evaluate", "--model", f"s3://{BUCKET}/none", *DATA).refusal()
    assert f"s3://{BUCKET}/none: holds no classifier" in line
    assert Path("evaluations").is_dir()
