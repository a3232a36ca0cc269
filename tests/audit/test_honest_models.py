"""The audit over classifiers that mask nothing: no line may fail, whatever they are worth."""

import numpy as np
import pytest
import torch
from honest_models import HONEST
from models_of_digits import EPS

import dfshield
from dfshield.audit import audit
from dfshield.classifiers import build

pytestmark = pytest.mark.slow

UNTRAINED = tuple(name for name in HONEST if name.startswith("untrained"))


@pytest.fixture(scope="module")
def made():
    """Return a function that makes a classifier, each once."""
    kept = {}

    def make(name, seed):
        if (name, seed) not in kept:
            kept[name, seed] = HONEST[name](seed)
        return kept[name, seed]

    return make


def condemned(report):
    """The lines that fail, with what they say."""
    return [
        (check.key, check.finding, check.evidence)
        for check in report.checks
        if check.verdict == "fail"
    ]


@pytest.mark.parametrize("eps", [EPS, 0.03])
@pytest.mark.parametrize("name", HONEST)
def test_digits(name, eps, made, digits):
    report = audit(made(name, 0), digits, eps=eps, autoattack=False)
    assert condemned(report) == []


@pytest.mark.drill
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", [*UNTRAINED, "dense"])
def test_digits_from_other_seeds(name, seed, made, digits):
    report = audit(made(name, seed), digits, eps=EPS, autoattack=False, seed=seed)
    assert condemned(report) == []


@pytest.mark.parametrize("name", ["convolutional", "transformer"])
def test_digits_with_autoattack(name, made, digits):
    x, y = digits
    report = audit(made(name, 0), (x[:40], y[:40]), eps=EPS)
    assert condemned(report) == []


@pytest.fixture(scope="module")
def cifar(real_file):
    """60 images of the CIFAR-10 test set."""
    with np.load(real_file("cifar10_test.npz")) as data:
        x = torch.from_numpy(data["images"][:60]).permute(0, 3, 1, 2).contiguous().float() / 255
        y = torch.from_numpy(data["labels"][:60].astype(np.int64))
    return x, y


@pytest.fixture(scope="module")
def resnet20(real_file):
    return build(
        "dfshield:resnet20",
        num_classes=10,
        weights=real_file("cifar10_resnet20.th"),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    ).eval()


@pytest.fixture(scope="module")
def hardened(data_folder):
    return dfshield.load(data_folder / "hardened_cifar10_resnet20")


@pytest.mark.drill
@pytest.mark.parametrize("eps", ["1/255", "8/255"])
@pytest.mark.parametrize("name", ["resnet20", "hardened"])
def test_cifar(name, eps, request, cifar):
    model = request.getfixturevalue(name)
    report = audit(model, cifar, eps=eps, autoattack=False, slice_size=60)
    assert condemned(report) == []
