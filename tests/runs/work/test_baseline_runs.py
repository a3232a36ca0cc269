"""A run whose method is a baseline: what it leaves behind, goes on from, says and refuses."""

import json
import shutil

import pytest
import safetensors.torch
import torch
from PIL import Image
from tiny_run import TINY, call, changed, contents, events, run_of, stamps, succeed, write_config

import dfshield
from dfshield.baselines import BaselineTraining
from dfshield.classifiers import describe
from dfshield.config import config_from
from dfshield.runs.inputs.baseline import begun_baseline
from dfshield.runs.inputs.classifier_folder import load_classifier
from dfshield.runs.work import baseline as work
from dfshield.storage import Folder

DAST = {"name": "dast", "epochs": 2, "iterations_per_epoch": 3, "batch_size": 12, "width": 4}
QUICK = {
    "training": {"inner": {"num_steps": 1}, "checkpoint_every": 2},
    "evaluation__attacks": [{"name": "pgd", "num_steps": 1}],
    "evaluation__num_images": 20,
}


@pytest.fixture
def baseline(finished, tmp_path):
    """A function that gives a configuration with a teacher and a baseline."""

    def make(name="copy", **changes):
        config = write_config(tmp_path / name, **{**QUICK, "method": DAST, **changes})
        shutil.copytree(run_of(finished / "tiny.yaml") / "teacher", run_of(config) / "teacher")
        return config

    return make


def made(run):
    """What the bytes of a student are, but for the times of the record."""
    return {k: v for k, v in contents(run / "student").items() if k != "stage.json"}


def test_a_run_leaves_a_student_a_generator_and_says_what_was_asked(baseline):
    config = baseline()
    answer = succeed("run", config)
    run = run_of(config)
    assert "method: dast makes its images while it trains: none are stored" in answer.err
    assert "What may help" not in answer.out
    assert not (run / "synthetic").exists()
    student = run / "student"
    model = dfshield.load(student)
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert describe(student).data_free is True

    weights = safetensors.torch.load_file(student / work.WEIGHTS)
    assert {name.split(".")[0] for name in weights} == {"branches", "trunk"}
    described = json.loads((student / work.DESCRIPTION).read_text())
    assert (described["queries"], described["num_queries"]) == ("labels", 72)
    assert "3 doublings of the sides in place of 5" in described["changed"]
    with Image.open(student / work.PICTURE) as picture:
        picture.verify()
    history = json.loads((student / "history.json").read_text())
    assert [(r["step"], r["epoch"], r["update"]) for r in history] == [
        (step + 1, step // 3, step % 3) for step in range(6)
    ]
    assert [e["loss"] for e in events(run, "update")] == [r["loss"] for r in history]

    state = json.loads(succeed("status", run, "--json").out)["seeds"][0]["train"]
    assert (state["state"], state["updates"]) == ("done", 6)
    assert state["baseline"]["queries"] == "labels"
    shown = succeed("status", run).out
    assert "dast, 72 queries (labels)" in shown
    assert "synthesize" not in shown
    page = (run / "report" / "index.html").read_text()
    assert "trained together with the student (dast)" in page
    assert "72 images were shown to the teacher, whose labels were used" in page
    assert "GradRefine: share" not in page
    card = (student / "README.md").read_text()
    assert "by the baseline dast, which trained a generator" in card
    assert "the teacher was shown 72 images" in card
    assert len(list((run / "evaluation").glob("student-*.json"))) == 2

    before = stamps(student)
    succeed("train", config)
    assert stamps(student) == before
    assert "method.alpha: 0.2 → 0.1" in call("train", config, "method.alpha=0.1").refusal()


def flipped(file):
    """Change one byte in the middle of a file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("stopped_at", [3, pytest.param(5, marks=pytest.mark.drill)])
def test_one_that_was_stopped_goes_on_and_gives_the_same_bytes(baseline, monkeypatch, stopped_at):
    config, other = baseline(), baseline("other")
    succeed("train", config)
    step = BaselineTraining.step

    def stop(self):
        if self.steps_done == stopped_at:
            raise KeyboardInterrupt
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(BaselineTraining, "step", stop)
        assert call("train", other).code == 130
    assert "1 of 1 files verify" in succeed("verify", run_of(other)).out
    for verdict in ("student/checkpoint.pt: broken", "1 of 1 files verify"):
        flipped(run_of(other) / "student" / "checkpoint.pt")
        assert verdict in call("verify", run_of(other)).out
    succeed("train", other)
    (_, resumed) = events(run_of(other), "training_started")
    assert resumed["updates"] == stopped_at - stopped_at % 2
    assert made(run_of(other)) == made(run_of(config))
    told = [json.loads((run_of(c) / "student/stage.json").read_text()) for c in (config, other)]
    for record in told:
        del record["summary"]["baseline"]["seconds"]
    assert told[0] == told[1]


def test_a_generator_that_is_missing_is_made_again(baseline):
    config = baseline()
    succeed("train", config)
    before = made(run_of(config))
    (run_of(config) / "student" / work.WEIGHTS).unlink()
    assert f"{work.WEIGHTS}: is missing; it is made again" in succeed("train", config).err
    assert made(run_of(config)) == before


def test_verify_reads_what_a_baseline_has_made_and_has_it_made_again(baseline):
    config = baseline()
    run = run_of(config)
    succeed("train", config)
    succeed("evaluate", config)
    (report,) = json.loads(succeed("verify", run, "--json").out)
    results = [f["path"] for f in report["files"] if f["path"].startswith("evaluation/")]
    assert len(results) == 8
    assert len(report["files"]) == 6 + 8
    before, expected = made(run), contents(run / "evaluation")
    broken = ["student/model.safetensors", f"student/{work.WEIGHTS}", f"student/{work.PICTURE}"]
    for name in broken:
        flipped(run / name)
    (run / results[0]).write_text("{")
    (run / results[3]).unlink()
    answer = call("verify", run)
    assert answer.code == 3
    for name in (*broken, *results[:1]):
        assert f"{name}: broken " in answer.out
    assert f"{results[3]}: missing" in answer.out
    assert "9 of 14 files verify" in answer.out
    (report,) = json.loads(succeed("verify", run, "--repair", "--json").out)
    assert report["ok"]
    assert made(run) == before
    assert set(contents(run / "evaluation")) == set(expected)


@pytest.mark.parametrize(
    "command",
    [
        ("verify", "--resynthesize", "3"),
        ("export-data", "--to", "npz", "--out", "x.npz"),
        ("diversity", "--real", "digits"),
        ("figure", "grid"),
    ],
    ids=" ".join,
)
def test_what_asks_for_the_images_of_a_baseline_says_that_there_are_none(baseline, command):
    config = baseline()
    run_of(config).joinpath("config.yaml").write_text(config.read_text())
    words = ["figure", "grid"] if command[0] == "figure" else [command[0]]
    assert "holds no student yet" in call("verify", run_of(config)).refusal()
    said = call(*words, run_of(config), *command[len(words) :]).refusal()
    assert "its method, dast, makes images while it trains and stores none" in said


def test_a_training_that_diverges_is_a_result_that_says_so(baseline):
    config = baseline(
        method={
            "name": "dfme",
            "query_budget": 7 * 12 * 40,
            "batch_size": 12,
            "width": 4,
            "latent": 4,
            "student_learning_rate": 1e3,
            "drops": [],
        }
    )
    run = run_of(config)
    assert "Alarm: step " in succeed("run", config, "evaluation.data=null").err
    told = json.loads((run / "student" / "stage.json").read_text())["summary"]["baseline"]
    assert told["steps"] == told["diverged"] - 1 < 40
    assert [e["kind"] for e in events(run, "alarm")] == ["diverged"]
    weights = load_classifier(Folder.at(run / "student")).state_dict().values()
    assert all(bool(value.isfinite().all()) for value in weights)
    for text in (run / "report/index.html", run / "student/README.md"):
        assert f"raining diverged at step {told['diverged']}" in text.read_text()
    assert f"diverged at step {told['diverged']}" in succeed("status", run).out


def test_the_plan_measures_a_few_steps_and_writes_nothing(baseline):
    config = baseline()
    plan = json.loads(succeed("train", config, "--plan", "--json").out)
    assert (plan["unit"], plan["units"]) == ("step", 6)
    assert not (run_of(config) / "student").exists()
    said = call("synthesize", config, "--plan").refusal()
    assert "method: dast makes its images while it trains" in said


REFUSED = {
    "an unknown one": ({"method": "dats"}, "method.name: baseline 'dats' is unknown"),
    "an option of none": (
        {"method": {**DAST, "feature_weight": 1}},
        "method.feature_weight: is no option of dast",
    ),
    "an early end": (
        {"method": {"name": "ait", "epochs": 50}},
        "method.milestones: the training of 50 epochs ends before the learning rates fall",
    ),
    "images beside it": (
        {"training": {"data": "elsewhere"}},
        "training.data: not beside method, since dast makes its own images",
    ),
    "another inner loss": (
        {"training": {"inner": {"loss": "ce"}}},
        "training.inner.loss: must be kl",
    ),
    "a choice of epochs": ({"training": {"select": "holdout"}}, "dast has no synthetic hold-out"),
    "too few images": (
        {"method": {**DAST, "batch_size": 4}},
        "method dast: batch_size: 4 images cannot be shared out to 10 branches",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_in_one_line(baseline, case):
    changes, said = REFUSED[case]
    config = baseline(**changes)
    assert said in call("train", config).refusal()
    assert not (run_of(config) / "student").exists()


def test_the_stage_that_a_baseline_replaces_is_refused_by_itself(baseline):
    said = call("synthesize", baseline()).refusal()
    assert "none are stored; run `dfshield train`" in said


FACTORY = """
import torch
from torch import nn

def make():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(144, 10))
"""


@pytest.mark.parametrize("name", ["ait", "dast"])
def test_a_teacher_without_batchnorm_is_refused_where_its_statistics_are_matched(
    tmp_path, monkeypatch, name
):
    (tmp_path / "without_batchnorm.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(tmp_path)
    teacher = {
        "source": "python:without_batchnorm:make",
        "input_shape": [1, 8, 8],
        "num_classes": 10,
    }
    method = DAST if name == "dast" else {"name": "ait", "epochs": 5, "milestones": []}
    config = write_config(tmp_path, **{**QUICK, "method": method, "teacher": teacher})
    if name == "dast":
        succeed("train", config)
        return
    said = call("train", config).refusal()
    assert "method ait:" in said
    assert "has no BatchNorm layer with running statistics" in said
    failed = [
        c for c in json.loads(call("doctor", config, "--json").out) if c["verdict"] == "failed"
    ]
    assert [c["told"] for c in failed] == [said.removeprefix("Error: ")]


def test_runs_without_a_method_are_as_they_were(finished):
    record = json.loads((run_of(finished / "tiny.yaml") / "student/stage.json").read_text())
    assert "method" not in record["identity"]
    assert "generator/config.json" not in record["files"]


def test_the_inner_maximisation_is_that_of_the_threat(finished):
    teacher = load_classifier(Folder.at(run_of(finished / "tiny.yaml") / "teacher"))
    inner = begun_baseline(config_from(changed(TINY, **QUICK, method=DAST)), teacher, seed=0).inner
    assert (inner.eps, inner.norm, inner.num_steps, inner.loss) == (0.1, "linf", 1, "kl")
