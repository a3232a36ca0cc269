"""A classifier of the user's own, named by its factory, through the whole pipeline."""

import sys

import pytest
import torch
from tiny_run import call, succeed, write_config

import dfshield
from dfshield.datasets import load_images
from dfshield.errors import InputError

FACTORY = """
import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.bn = (nn.SyncBatchNorm if kind == "synchronised" else nn.BatchNorm2d)(4)
        self.last = nn.BatchNorm1d(10) if kind == "flat" else nn.Identity()
        if kind == "uncounted":
            self.bn.num_batches_tracked = None
        self.conv = nn.Conv2d(1, 4, 3)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(4, 10)

    def train(self, mode=True):
        super().train(mode)
        if self.kind == "frozen":
            self.bn.eval()
        return self

    def forward(self, x):
        x = self.conv(x)
        x = x if self.kind == "unused" else self.bn(x)
        if self.kind == "both ways":
            x = F.batch_norm(x, self.bn.running_mean, self.bn.running_var, training=self.training)
        logits = self.last(self.head(self.drop(x.relu().mean((2, 3)))))
        if self.kind == "fails in training" and self.training:
            raise RuntimeError("no such thing in train mode")
        if self.kind == "cut in training" and self.training:
            return logits.detach()
        return logits.detach() if self.kind == "cut" else logits


def make(kind="good"):
    torch.manual_seed(0)
    return Net(kind)
"""
NUM_TRAINED_ON = len(load_images("digits", split="train"))


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Return a function that writes a config for the factory of one kind, in the current folder."""
    (tmp_path / "mymodels.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # where the command line puts the folder

    def write(kind: str, **changes: object):
        teacher = {
            "source": "python:mymodels:make",
            "options": {"kind": kind},
            "input_shape": [1, 8, 8],
            "num_classes": 10,
            "mean": [0.5],
            "std": [0.5],
        }
        return write_config(tmp_path, teacher=teacher, **changes)

    return write


@pytest.mark.parametrize("kind", ["good", "frozen", "uncounted", "synchronised"])
def test_a_factory_with_its_own_weights_is_hardened(own, tmp_path, monkeypatch, kind):
    config = own(kind)
    succeed("run", config)
    student = tmp_path / "runs/tiny/student"
    with pytest.raises(InputError, match="trust_python=True"):
        dfshield.load(student)
    assert "trust_python=True" in (student / "README.md").read_text()
    monkeypatch.syspath_prepend(tmp_path)
    loaded = dfshield.load(student, trust_python=True)
    assert loaded.num_classes == 10
    teacher = dfshield.load(tmp_path / "runs/tiny/teacher", trust_python=True)
    still = [
        torch.equal(loaded.state_dict()[name], value)
        for name, value in teacher.state_dict().items()
        if ".bn.r" in name or ".bn.n" in name
    ]
    assert still == ([False, False] if kind == "uncounted" else 3 * [kind == "frozen"])


def test_a_last_mini_batch_of_one_image_is_told_of_at_once(own, tmp_path):
    line = call("run", own("flat"), "training.batch_size=79").refusal()
    assert "training.batch_size: 79 leaves one image for the last mini-batch of 80" in line
    assert not (tmp_path / "runs/tiny/teacher").exists()
    succeed("run", own("flat"))


def test_a_last_mini_batch_of_the_teachers_training_is_looked_at_too(own):
    config = own("flat")
    train = "teacher.train={data: {name: digits}, epochs: 1, batch_size: %d}"
    with_one = next(n for n in range(2, 200) if NUM_TRAINED_ON % n == 1)
    line = call("teacher", config, train % with_one).refusal()
    assert f"teacher.train.batch_size: {with_one} leaves one of {NUM_TRAINED_ON} images" in line


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("unused", "none of the classifier's BatchNorm"),
        ("cut", "gradient"),
        ("fails in training", "fails in train mode on 2 images: RuntimeError: no such thing"),
        ("cut in training", "in train mode: its logits carry no gradient"),
        ("both ways", "bn.running_mean is moved in train mode by something else"),
    ],
)
def test_what_would_stop_the_run_later_is_said_at_once(own, tmp_path, kind, said):
    line = call("run", own(kind)).refusal()
    assert said in line
    assert not (tmp_path / "runs/tiny/teacher").exists()


def test_half_a_normalisation_is_refused(own):
    line = call("run", own("good"), "teacher.mean=null").refusal()
    assert "mean, std: give both or neither" in line
