"""One table: classifiers that mask nothing, for which no line may fail, and ones that mask."""

import numpy as np
import pytest
import torch
from honest_models import HONEST
from models_of_digits import EPS, MASKED

import dfshield
from dfshield.audit import audit
from dfshield.classifiers import build

NOTHING: set[str] = set()
TABLE = {
    "convolutional": NOTHING,
    "confident": NOTHING,
    "dense": NOTHING,
    "hardened": NOTHING,
    "hardened-dense": NOTHING,
    "untrained": NOTHING,
    "untrained-dense": NOTHING,
    "untrained-transformer": NOTHING,
    "group-norm": NOTHING,
    "transformer": NOTHING,
    "quantised": {"gradients", "unbounded", "black-box", "transfer"},
    "saturated": {"gradients", "unbounded", "losses"},
    "overconfident": {"losses"},
    "probabilities": {"logits", "gradients", "unbounded"},
    "stochastic": {"deterministic", "smooth-loss"},
    "shattered": {"smooth-loss", "unbounded", "black-box", "transfer"},
    "batch-statistics": {"batch-independent"},
    "constant": {"floor", "unbounded", "gradients"},
}
"""The lines, of those that need no AutoAttack, that are made for what a classifier does."""
UNTRAINED = tuple(name for name in TABLE if name.startswith("untrained"))


@pytest.fixture(scope="module")
def made(standard):
    """Return a function that makes a classifier of the table, each once."""
    kept = {("convolutional", 0): standard}

    def make(name, seed=0):
        if (name, seed) not in kept:
            kept[name, seed] = MASKED[name](standard) if name in MASKED else HONEST[name](seed)
        return kept[name, seed]

    return make


def check(name, report):
    """Insist on the row of the table: no line of an honest model, every line of a masked one."""
    failed = {line.key: line.finding for line in report.checks if line.verdict == "fail"}
    assert failed.keys() >= TABLE[name], failed
    assert TABLE[name] or not failed, failed
    assert (report.verdict == "fail") == bool(TABLE[name])


MORE = {
    "confident",
    "dense",
    "hardened",
    "untrained",
    "untrained-dense",
    "untrained-transformer",
    "group-norm",
    "transformer",
}
"""Honest ones whose like is audited in CI."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.drill) if n in MORE else n for n in TABLE]
)
def test_every_classifier_gets_its_row(name, made, digits, robust_dense):
    report = audit(made(name), digits, eps=EPS, source=robust_dense, autoattack=False)
    check(name, report)
    assert {line.key for line in report.checks if line.verdict == "not run"} == {"autoattack-gap"}


@pytest.mark.drill
@pytest.mark.parametrize("name", [name for name in TABLE if not TABLE[name]])
def test_an_honest_one_passes_at_a_small_radius(name, made, digits):
    check(name, audit(made(name), digits, eps=0.03, autoattack=False))


@pytest.mark.drill
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", [*UNTRAINED, "dense"])
def test_an_honest_one_passes_from_other_seeds(name, seed, made, digits):
    check(name, audit(made(name, seed), digits, eps=EPS, autoattack=False, seed=seed))


@pytest.mark.drill
@pytest.mark.parametrize("name", ["convolutional", "hardened", "transformer"])
def test_an_honest_one_passes_with_autoattack(name, made, digits):
    x, y = digits
    report = audit(made(name), (x[:40], y[:40]), eps=EPS)
    assert report.failed() == []
    assert {line.key for line in report.checks if line.verdict == "not run"} == {"transfer"}
    gap = report.check("autoattack-gap").evidence
    assert gap["autoattack"] <= gap["pgd"]
    course = report.check("more-steps").evidence["accuracy"]
    assert course[0] > course[-1] > 0


@pytest.mark.drill
@pytest.mark.slow
def test_autoattack_comes_out_far_below_pgd_where_there_is_no_gradient(standard, digits):
    x, y = digits
    report = audit(MASKED["quantised"](standard), (x[:40], y[:40]), eps=EPS)
    assert "autoattack-gap" in report.failed()
    assert any("zero gradient" in note for note in report.check("autoattack-gap").evidence["notes"])


@pytest.mark.drill
@pytest.mark.slow
def test_a_randomised_classifier_meets_autoattack_with_many_draws(standard, digits):
    x, y = digits
    report = audit(MASKED["stochastic"](standard), (x[:20], y[:20]), eps=EPS)
    assert report.check("autoattack-gap").evidence["version"] == "rand"


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
def hardened_resnet20(data_folder):
    return dfshield.load(data_folder / "hardened_cifar10_resnet20")


@pytest.mark.drill
@pytest.mark.parametrize("eps", ["1/255", "8/255"])
@pytest.mark.parametrize("name", ["resnet20", "hardened_resnet20"])
def test_a_real_one_passes(name, eps, request, cifar):
    model = request.getfixturevalue(name)
    report = audit(model, cifar, eps=eps, autoattack=False, slice_size=60)
    assert report.failed() == []
