"""What ``doctor`` finds of the classifier that is to be hardened, and of its test images."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_run import TINY, call, changed, contents, run_of, write_config

from dfshield.classifiers import build, save
from dfshield.datasets import load_images

FACTORY = """
import threading

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, kind):
        super().__init__()
        norm = nn.GroupNorm(2, 4) if kind == "no BatchNorm" else nn.BatchNorm2d(4)
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), norm, nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(144, 10)
        self.last = nn.BatchNorm1d(10) if kind == "flat" else nn.Identity()
        self.kind = kind
        if kind == "with a lock":
            self.lock = threading.Lock()

    def forward(self, x):
        if self.kind == "wrong size":
            x = x[:, :, :4]
        logits = self.last(self.head(self.body(x)))
        if self.kind == "noisy":
            logits = logits + torch.randn_like(logits)
        if self.kind == "fails in training" and self.training:
            raise RuntimeError("no such thing in train mode")
        if self.kind == "cut in training" and self.training:
            return logits.detach()
        return OneWay.apply(logits) if self.kind == "one way" else logits


class OneWay(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits):
        return logits * 1


def make(kind="good"):
    print("built")
    torch.manual_seed(0)
    net = Net(kind)
    if kind != "unseen":
        with torch.no_grad():
            net(torch.rand(64, 1, 8, 8)) if kind not in ("wrong size", "fails in training") else 0
    return net
"""
OWN = {"source": "python:doctored:make", "input_shape": [1, 8, 8], "num_classes": 10}


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A function that gives the configuration of a factory's teacher, in the current folder."""
    (tmp_path / "doctored.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # where the command line puts the folder
    monkeypatch.delitem(sys.modules, "doctored", raising=False)

    def write(kind="good", **changes):
        normalised = {"mean": [0.5], "std": [0.5]}
        teacher = {**OWN, **normalised, "options": {"kind": kind}, **changes.pop("teacher", {})}
        return write_config(tmp_path, teacher=teacher, **changes)

    return write


def examined(config, *overrides, code=0):
    """The checks of a configuration by name; nothing may be written, and all of it is one line."""
    before = contents(config.parent)
    answer = call("doctor", config, *overrides, "--json")
    assert answer.code == code, answer
    assert "Traceback" not in answer.err
    assert contents(config.parent) == before
    checks = json.loads(answer.out[answer.out.index("[") :])
    assert not [check for check in checks if "\n" in check["told"]]
    return {check["name"]: check for check in checks}


def failed(checks):
    return {name: check["told"] for name, check in checks.items() if check["verdict"] == "failed"}


def warned(checks):
    return {name: check["told"] for name, check in checks.items() if check["verdict"] == "warning"}


def test_a_teacher_that_is_well(own):
    checks = examined(own())
    assert set(warned(checks)) == {"clean accuracy"}  # nobody has trained it
    assert "near the floor" in checks["clean accuracy"]["told"]
    assert checks["teacher source"]["told"] == "python:doctored:make: 10 classes, images 1 x 8 x 8"
    assert checks["normalisation"]["told"] == "mean [0.5], std [0.5]"
    assert checks["last mini-batch"]["told"] == "80 images in mini-batches of 20"
    assert checks["BatchNorm layers"]["told"] == "1 of them"
    no_images = examined(own(), "evaluation.data=null")
    assert not {"clean accuracy", "test images and classes"} & set(no_images)


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("no BatchNorm", "BatchNorm layers", "there is nothing to match"),
        ("wrong size", "teacher source", "fails on images of shape (2, 1, 8, 8)"),
        ("fails in training", "a mini-batch in train mode", "fails in train mode on 2 images"),
        ("cut in training", "a mini-batch in train mode", "its logits carry no gradient"),
        ("one way", "a step of the synthesis", "NotImplementedError"),
        ("with a lock", "BatchNorm layers", "cannot pickle '_thread.lock' object"),
    ],
)
def test_what_would_stop_the_run_fails_with_the_words_of_the_run(own, kind, name, said):
    config = own(kind)
    told = failed(examined(config, code=3))
    assert said in told[name]
    assert len(set(told.values())) == len(told)  # one cause, one line
    assert call("run", config).refusal() == f"Error: {told[name]}"
    assert not (run_of(config) / "teacher").exists()


@pytest.mark.parametrize(
    ("changes", "name", "said"),
    [
        ({"source": "python:doctored:made"}, "teacher source", "nothing to call named 'made'"),
        ({"source": "python:nowhere_at_all:make"}, "teacher source", "cannot import"),
        ({"options": {"sort": 1}}, "teacher source", "TypeError"),
        ({"num_classes": 7}, "teacher source", "num_classes is 7"),
        ({"weights": "none.pth"}, "teacher weights", "none.pth: no such weights file"),
        ({"weights": "page.pth"}, "teacher weights", "is a web page, no weights file"),
        ({"weights": "other.pth"}, "teacher weights", "do not fit"),
        ({"weights": "broken.pth"}, "teacher weights", "not a file that torch.save wrote"),
    ],
)
def test_sources_and_weights_are_told_apart(own, tmp_path, changes, name, said):
    (tmp_path / "page.pth").write_text("<!DOCTYPE html><html>not found</html>")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    (tmp_path / "broken.pth").write_bytes(b"PK no more")
    config = own(teacher=changes)
    told = failed(examined(config, code=3))
    assert list(told) == [name]
    assert said in told[name]
    assert call("run", config).refusal() == f"Error: {told[name]}"


def test_several_faults_are_found_at_once(own, tmp_path):
    config = own("no BatchNorm", teacher={"weights": "none.pth"})
    assert set(failed(examined(config, code=3))) == {"teacher weights", "BatchNorm layers"}
    (tmp_path / "broken.pth").write_bytes(b"PK no more")
    wrong = {"source": "python:doctored:made", "weights": "broken.pth"}
    told = failed(examined(own(teacher=wrong), code=3))
    assert set(told) == {"teacher source", "teacher weights"}


def test_what_only_has_to_be_known_is_a_warning(own):
    told = warned(examined(own("unseen", teacher={"mean": None, "std": None})))
    assert "have never seen a batch" in told["BatchNorm statistics"]
    assert "is given images in [0, 1] as they are" in told["normalisation"]
    told = warned(examined(own("noisy")))
    assert "randomised" in told["same answer twice"]


def test_mini_batches_of_one_image_are_tried(own):
    config = own("flat")
    one = ("training.batch_size=1", "training.gradrefine.num_batches=2")
    told = failed(examined(config, *one, code=3))
    assert "training.batch_size: 1 leaves one of 80 images" in told["last mini-batch"]
    assert call("run", config, *one).refusal() == f"Error: {told['last mini-batch']}"
    train = f"teacher.train={{data: {{name: digits}}, batch_size: {digits_leaving_one()}}}"
    told = failed(examined(config, train, code=3))
    assert "teacher.train.batch_size" in told["teacher's last mini-batch"]
    assert not failed(examined(own("good"), *one))


def digits_leaving_one():
    number = len(load_images("digits", split="train"))
    return next(n for n in range(2, 200) if number % n == 1)


@pytest.mark.parametrize(
    ("labels", "size", "code", "said"),
    [
        (10, 8, 0, "matched by their order"),
        (10, 9, 3, "9x9, the classifier takes 8x8"),
        (12, 8, 3, "12 classes"),
    ],
)
def test_test_images_that_do_not_fit_are_told(own, tmp_path, labels, size, code, said):
    images = np.zeros((24, size, size), np.float32)
    names = [f"kind {label}" for label in range(labels)]
    np.savez(tmp_path / "real.npz", images=images, labels=np.arange(24) % labels, class_names=names)
    data = {"name": "npz", "path": str(tmp_path / "real.npz")}
    checks = examined(own(evaluation__data=data), code=code)
    assert said in checks["test images and classes"]["told"]
    assert checks["test images and classes"]["verdict"] == ("failed" if code else "warning")
    (tmp_path / "real.npz").write_bytes(b"PK")
    checks = examined(own(evaluation__data=data), code=3)
    assert "real.npz" in failed(checks)["test images and classes"]


def test_a_teacher_that_is_trained_here_is_looked_at_before_and_after(tiny, tmp_path):
    config = write_config(tmp_path / "fresh")
    checks = examined(config)
    assert not {*failed(checks), *warned(checks)}
    assert "to be trained by dfshield on 1,097 images of digits" in checks["teacher source"]["told"]
    assert checks["training images"]["told"] == "none of the test images is among them"
    assert "clean accuracy" not in checks
    same = examined(config, "evaluation.data.split=train")
    assert "measured on training images" in warned(same)["training images"]
    bad = examined(config, "teacher.train.data.name=digitz", code=3)
    assert "teacher.train.data" in failed(bad)["teacher source"]

    config = tiny(keep=("teacher",))
    checks = examined(config)
    assert checks["teacher"]["told"].startswith("finished, in ")
    assert "of 200 test images right" in checks["clean accuracy"]["told"]
    told = failed(examined(config, "teacher.options.width=4", code=3))
    assert "was made with other settings (teacher.options.width: 8 → 4)" in told["teacher"]
    (run_of(config) / "teacher/model.safetensors").write_bytes(b"cut")
    assert "it is made again" in warned(examined(config))["teacher"]


def test_weights_that_have_served_their_purpose_need_not_be_there(tmp_path):
    where = {"options": {"width": 8}, "input_shape": (1, 8, 8), "num_classes": 10}
    teacher = build("dfshield:resnet8", **where)
    torch.save(teacher.network.state_dict(), tmp_path / "w.pth")
    tree = changed(TINY, teacher__weights=str(tmp_path / "w.pth"), teacher__num_classes=10)
    del tree["teacher"]["train"]
    config = write_config(tmp_path, tree, teacher__mean=[0.5], teacher__std=[0.5])
    assert examined(config)["teacher weights"]["told"] == f"{tmp_path / 'w.pth'}: they fit"
    told = failed(examined(config, "teacher.mean=null", "teacher.std=null", code=3))
    assert "does not say how its training images were normalised" in told["teacher weights"]
    assert call("teacher", config).code == 0
    (tmp_path / "w.pth").unlink()
    assert examined(config)["teacher"]["told"].startswith("finished, in ")


def test_folders_are_looked_at_and_their_factories_called_where_trusted(own, tmp_path, monkeypatch):
    where = {"input_shape": (1, 8, 8), "num_classes": 10}
    sys.path.insert(0, str(tmp_path))
    with monkeypatch.context() as here:
        here.setattr(sys, "dont_write_bytecode", True)
        save(build("python:doctored:make", **where), tmp_path / "saved")
    del sys.modules["doctored"]
    config = own()
    config.write_text(config.read_text().replace("python:doctored:make", "saved"))
    options = ("teacher.options={}", "teacher.mean=null", "teacher.std=null")
    told = failed(examined(config, *options, code=3))
    assert "it calls doctored:make" in told["teacher source"]
    checks = examined(config, *options, "--trust-python")
    assert checks["teacher weights"]["told"] == "those that saved brings"
    attack = "evaluation.attacks=[{name: transfer, source: nowhere}]"
    told = failed(examined(own(), attack, code=3))
    assert "evaluation.attacks.0.source: " in told["attacks"]
    assert not Path("__pycache__").exists()


def test_pytorchcv_downloads_nothing_for_a_doctor(tmp_path):
    teacher = {"source": "pytorchcv:resnet20_cifar10", "weights": "download"}
    checks = examined(write_config(tmp_path, teacher=teacher, evaluation__data=None))
    assert checks["teacher weights"]["told"] == "pytorchcv will download them: not looked at here"
    assert checks["BatchNorm layers"]["told"] == "21 of them"
