"""What a prompt shows of results is short, however many numbers they hold."""

import pytest
import torch
from torch import nn

from dfshield.attacks import PGD
from dfshield.audit import audit
from dfshield.classifiers import Classifier
from dfshield.datasets import load_images
from dfshield.evaluation import evaluate, evaluate_slice
from dfshield.synthesis import Inversion


@pytest.fixture(scope="module")
def classifier():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)
        )
    return Classifier.wrap(net.eval(), input_shape=(1, 8, 8), mean=[0.5], std=[0.5])


@pytest.fixture(scope="module")
def images():
    return load_images("digits", split="test")


def test_every_result_is_one_short_line(classifier, images):
    x, y = images.tensors(slice(0, 100))
    attack = PGD(eps=0.1, num_steps=1)
    batch = Inversion(classifier, iterations=1, jitter=0).synthesize(seed=0, batch=0, size=64)
    shown = {
        "images": images,
        "evaluation": evaluate(classifier, (x, y), attack),
        "slice": evaluate_slice(classifier, x, y, attack, seed=0),
        "batch": batch,
    }
    for name, value in shown.items():
        assert len(repr(value)) < 1200, name
        assert "\n" not in repr(value), name
        assert type(value).__name__ in repr(value), name


def test_a_report_is_one_line_and_prints_a_line_a_check(classifier, images):
    report = audit(classifier, images.tensors(slice(0, 20)), eps=0.1, autoattack=False)
    assert len(repr(report)) < 1200
    assert "\n" not in repr(report)
    lines = str(report).splitlines()
    assert len(report.checks) <= len(lines) <= len(report.checks) + 3
