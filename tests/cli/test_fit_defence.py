"""The commands `fit-defence`: what they write, that it is the same twice, and what they refuse."""

import json

import numpy as np
import pytest
from safetensors import safe_open
from tiny_run import call, succeed

from dfshield.classifiers import build, save
from dfshield.defences import DAD, DiffPure

SCORE = ("fit-defence", "diffpure", "--data", "digits", "--num-images", 40)
SMALL_SCORE = (*SCORE, "--width", 4, "--epochs", 2)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder with the classifiers ``ten`` and ``three``."""
    monkeypatch.chdir(tmp_path)
    for name, classes in (("ten", 10), ("three", 3)):
        classifier = build(
            "dfshield:resnet8",
            input_shape=(1, 8, 8),
            num_classes=classes,
            options={"width": 4},
        )
        save(classifier, tmp_path / name)
    return tmp_path


def told(file):
    with safe_open(file, "pt") as content:
        return json.loads(content.metadata()["dfshield"])


def test_a_score_network_that_diffpure_takes_and_that_is_the_same_twice(here):
    answer = succeed(*SMALL_SCORE, "--out", "one.safetensors")
    assert "--defence '{name: diffpure, score: one.safetensors}'" in answer.out
    shown = json.loads(succeed(*SMALL_SCORE, "--out", "two.safetensors", "--json").out)
    one, two = ((here / f"{n}.safetensors").read_bytes() for n in ("one", "two"))
    assert one == two
    assert DiffPure(score="one.safetensors").network.stem.weight.shape == (4, 1, 3, 3)
    assert {"file": "two.safetensors", **told("one.safetensors")} == shown
    assert (shown["images"]["split"], shown["images"]["num_images"]) == ("train", 40)
    line = call(*SMALL_SCORE, "--out", "one.safetensors").refusal()
    assert "one.safetensors: exists already" in line
    assert (here / "one.safetensors").read_bytes() == one
    grey = (*SMALL_SCORE, "--channels", 3, "--seed", 1, "--out", "three.safetensors")
    succeed(*grey)
    assert DiffPure(score="three.safetensors").network.channels == 3


def test_a_detector_that_says_whether_test_images_leak_into_it(here):
    common = ("fit-defence", "dad", "--model", "ten", "--data", "digits", "--num-images", 30)
    attack = ("--eps", "0.1", "--num-steps", 2)
    succeed(*common, *attack, "--out", "alone.safetensors")
    adapted = (*common, *attack, "--adapt-to", "ten", "--adapt-data", "digits")
    succeed(*adapted, "--out", "adapted.safetensors")
    succeed(*adapted, "--out", "again.safetensors")
    assert not DAD(detector="alone.safetensors").leaks
    assert DAD(detector="adapted.safetensors").leaks
    assert told("alone.safetensors")["adapted_to"] is None
    assert told("adapted.safetensors")["adapted_on"]["split"] == "test"
    assert (here / "adapted.safetensors").read_bytes() == (here / "again.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ((*SCORE, "--width", 6), "width: give at least one image, and a multiple of 4"),
        ((*SCORE, "--split", "tes"), "--data: split: 'tes' is unknown: did you mean 'test'?"),
        ((*SCORE, "--learning-rate", 0), "learning_rate: 0.0 must be a number above 0"),
        (("dad", "--adapt-to", "ten"), "--adapt-data: is missing"),
        (("dad", "--adapt-data", "digits"), "--adapt-to: is missing"),
        (("dad", "--eps", "x"), "--eps: 'x' is not a perturbation size"),
        (("dad", "--norm", "l7"), "norm: 'l7' is unknown"),
        (
            ("dad", "--adapt-to", "three", "--adapt-data", "three.npz"),
            "--adapt-to: has 3 classes, but --model 10",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(here, command, said):
    if command[0] == "dad":
        images = ("--model", "ten", "--data", "digits", "--num-images", 9)
        command = ("fit-defence", "dad", *images, *command[1:])
    of_three_classes(here / "three.npz")
    assert said in call(*command, "--out", "out.safetensors").refusal()
    assert not (here / "out.safetensors").exists()


def of_three_classes(file):
    """Write nine grey images of three classes."""
    labels = np.arange(9) % 3
    images = np.full((9, 8, 8), 0.5, dtype=np.float32) + 0.1 * labels[:, None, None]
    np.savez(file, images=images.astype(np.float32), labels=labels)
