"""A result does not outlive the code that made it; what was assumed of a teacher is said."""

import json
import sys

import numpy as np
import pytest
import torch
from tiny_run import call, contents, write_config

from dfshield.classifiers import build
from dfshield.datasets import load_images
from dfshield.training import train_supervised

FACTORY = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10)
        )

    def forward(self, x):
        return self.body(x)


def make():
    torch.manual_seed(0)
    return Net()
"""
RIGHT = "return self.body(x)"
WRONG = "return self.body(1 - x)"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights of the factory's network, trained on digits normalised by 0.3 and 0.3."""
    folder = tmp_path_factory.mktemp("weights")
    names: dict = {}
    exec(FACTORY, names)
    train, val = (load_images("digits", split=split) for split in ("train", "val"))

    class Normalised(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = names["make"]()

        def forward(self, x):
            return self.net((x - 0.3) / 0.3)

    with torch.random.fork_rng(devices=[]):
        model = Normalised()
        train_supervised(model, train, val, epochs=4, batch_size=50, learning_rate=3e-3)
    torch.save(model.net.state_dict(), folder / "digits.pth")
    return folder / "digits.pth"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The current folder, with the factory's module in it."""
    (tmp_path / "own.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # where the command line puts the folder
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    sys.modules.pop("own", None)


def command(*args):
    """Call the command line with the factory's module imported anew, as a new process would."""
    sys.modules.pop("own", None)
    return call(*args)


def edit(place, old, new):
    file = place / "own.py"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def measured(place, weights, *extra, what="evaluate"):
    arguments = [what, "--model", "python:own:make", "--weights", weights, "--data", "digits"]
    arguments += ["--num-images", 60, "--eps", 0.05, "teacher.mean=[0.3]", "teacher.std=[0.3]"]
    answer = command(*arguments, *extra, "--json")
    return answer, json.loads(answer.out) if answer.out else None


ONE = "evaluation.attacks=[{name: fgsm}]"
TWO = "evaluation.attacks=[{name: fgsm}, {name: pgd, num_steps: 3}]"


def test_corrected_code_is_measured_anew_and_said(place, weights):
    edit(place, RIGHT, WRONG)
    _, before = measured(place, weights, ONE)
    edit(place, WRONG, RIGHT)
    answer, after = measured(place, weights, TWO)
    clean_before, clean_after = (r["results"][0]["accuracy"] for r in (before, after))
    assert clean_before < 0.6 < 0.85 < clean_after
    assert "its code was changed since" in answer.err
    assert all(r["accuracy"] <= clean_after for r in after["results"])
    prints = [{r["model_fingerprint"] for r in found["results"]} for found in (before, after)]
    assert len(prints[0]) == len(prints[1]) == 1
    assert prints[0] != prints[1]
    kept = contents(place / "evaluations")
    answer, again = measured(place, weights, TWO)
    assert again["results"] == after["results"]
    assert "changed" not in answer.err
    for name, content in contents(place / "evaluations").items():
        if not name.endswith(("events.jsonl", "lease.json")):
            assert content == kept[name], name


def test_a_comment_in_the_code_is_no_other_model(place, weights):
    _, before = measured(place, weights, ONE)
    edit(place, RIGHT, "return 1.0 * self.body(x)  # the same")
    answer, after = measured(place, weights, ONE)
    assert after["results"] == before["results"]
    assert "changed" not in answer.err


@pytest.mark.drill
@pytest.mark.slow
def test_an_audit_is_made_anew_for_changed_code(place, weights):
    extra = ("audit.autoattack=false", "audit.num_images=40")
    _, before = measured(place, weights, *extra, what="audit")
    edit(place, RIGHT, "return self.body(x).softmax(1)")
    answer, after = measured(place, weights, *extra, what="audit")
    assert answer.code == 3
    failed = [line["key"] for line in after[0]["checks"] if line["verdict"] == "fail"]
    assert "logits" in failed
    assert "logits" not in [c["key"] for c in before[0]["checks"] if c["verdict"] == "fail"]


def config_of(place, weights, **changes):
    teacher = {
        "source": "python:own:make",
        "weights": None if weights is None else str(weights),
        "input_shape": [1, 8, 8],
        "num_classes": 10,
        "mean": [0.3],
        "std": [0.3],
    }
    return write_config(place, teacher={**teacher, **changes})


def test_a_finished_run_refuses_changed_code_and_stays(place, weights):
    config = config_of(place, weights)
    assert command("run", config).code == 0
    before = contents(place / "runs")
    edit(place, RIGHT, WRONG)
    line = command("run", config).refusal()
    assert "its code was changed since" in line
    after = contents(place / "runs")
    volatile = ("events.jsonl", "lease.json")
    assert {k: v for k, v in after.items() if not k.endswith(volatile)} == {
        k: v for k, v in before.items() if not k.endswith(volatile)
    }
    edit(place, WRONG, RIGHT)
    assert command("run", config).code == 0


def test_a_factory_that_brings_other_weights_is_another_teacher(place):
    config = config_of(place, None)
    assert command("teacher", config).code == 0
    assert command("teacher", config).code == 0
    edit(place, "manual_seed(0)", "manual_seed(1)")
    assert "now brings other weights" in command("teacher", config).refusal()


@pytest.mark.parametrize("mode", ["", " if self.training else self.body(x)"])
def test_probabilities_are_refused_before_anything_is_made(place, weights, mode):
    edit(place, RIGHT, f"return self.body(x).softmax(1){mode}")
    line = command("run", config_of(place, weights)).refusal()
    assert "LogProbabilities" in line
    assert not (place / "runs/tiny/teacher").exists()


def test_evaluate_says_probabilities_in_table_and_json(place, weights):
    edit(place, RIGHT, "return (40 * self.body(x)).softmax(1)")
    _, found = measured(place, weights, ONE)
    assert all(result["probabilities"] for result in found["results"])
    arguments = ["--model", "python:own:make", "--weights", weights, "--data", "digits"]
    table = command("evaluate", *arguments, "--num-images", 20, ONE)
    assert "probabilities" in table.out


@pytest.mark.parametrize("cast", ["half", "bfloat16", "double"])
def test_a_factory_of_another_precision_is_evaluated_and_not_hardened(place, cast):
    edit(place, "return Net()", f"return Net().{cast}()")
    arguments = ["--model", "python:own:make", "--data", "digits", "--num-images", 20, ONE]
    for _ in range(2):
        answer = command("evaluate", *arguments, "--json")
        assert answer.code == 0, answer
    assert "model.float()" in command("run", config_of(place, None)).refusal()


def test_the_normalisation_that_was_assumed_is_printed_at_both_doors(place, weights):
    arguments = ["--model", "python:own:make", "--weights", weights, "--data", "digits"]
    told = command("evaluate", *arguments, "--num-images", 60, ONE, "--json")
    config = config_of(place, weights, mean=None, std=None)
    run = command("teacher", config)
    for answer in (told, run):
        assert answer.code == 0, answer
        assert "images in [0, 1] as they are (mean 0, std 1)" in answer.err
    standalone = json.loads(told.out)["results"][0]["accuracy"]
    assert f"Teacher: {standalone:.1%}" not in run.err  # other images
    assert "of 200 test images right" in run.err


def test_pixel_scales_are_refused_with_the_key(place, weights):
    line = command("teacher", config_of(place, weights, mean=[123.7])).refusal()
    assert "teacher.mean" in line
    assert "255" in line


def test_a_teacher_that_guesses_is_said_before_the_synthesis(place):
    run = command("teacher", config_of(place, None))
    assert run.code == 0, run
    assert "near the floor" in run.err
    assert "have never seen a batch" in run.err


def test_test_images_that_do_not_fit_are_refused_before_the_synthesis(place, weights):
    images, labels = np.zeros((20, 9, 9), np.uint8), np.arange(20) % 10
    np.savez(place / "odd.npz", images=images, labels=labels)
    config = config_of(place, weights)
    data = f"evaluation.data={{name: npz, path: {place / 'odd.npz'}}}"
    line = command("run", config, data).refusal()
    assert "9x9" in line
    assert not (place / "runs/tiny/teacher").exists()


def test_build_and_the_command_line_mean_the_same(place, weights, monkeypatch):
    monkeypatch.syspath_prepend(place)
    shape = {"input_shape": (1, 8, 8), "num_classes": 10}
    model = build("python:own:make", weights=weights, **shape)
    assert model.mean.item() == 0
    assert model.std.item() == 1
