"""Agreement with foolbox and pyautoattack called directly, on real models and images."""

import logging

import foolbox
import numpy as np
import pyautoattack
import pytest
import torch

from dfshield.attacks import PGD, make_attack
from dfshield.classifiers import build
from dfshield.evaluation import evaluate

NORMS = {"linf": "Linf", "l2": "L2"}
STANDARD = ("apgd-ce", "apgd-t", "fab-t", "square")


def standing(model, x, y):
    with torch.no_grad():
        return model(x).argmax(1) == y


def require_same_verdicts(model, x_adv, expected, y):
    """Insist on pyautoattack's verdicts, to the image, and its bytes of those that stand.

    Images that APGD breaks leave its batch, so that they are the first wrong ones and not the last.
    """
    stands = standing(model, x_adv, y)
    assert torch.equal(stands, standing(model, expected, y))
    assert torch.equal(x_adv[stands], expected[stands])


def directly(model, x, y, *, eps, norm, seed, parts, targets=9, **budget):
    """pyautoattack's own classes with a budget, as its users would write it."""
    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    with torch.random.fork_rng(devices=[]):
        theirs = pyautoattack.AutoAttack(
            model,
            norm=NORMS[norm],
            eps=eps,
            seed=seed,
            device="cpu",
            version="custom",
            attacks=list(parts),
        )
        steps = budget.get("num_steps", 100)
        options = {"norm": NORMS[norm], "eps": eps, "seed": seed, "device": "cpu"}
        logger = logging.getLogger("auto-attack")
        base = pyautoattack.autopgd_base
        theirs.apgd = base.APGDAttack(model, n_iter=steps, logger=logger, **options)
        theirs.apgd_targeted = base.APGDAttack_targeted(
            model, n_iter=steps, n_target_classes=targets, logger=logger, **options
        )
        theirs.fab.n_iter, theirs.fab.n_restarts, theirs.fab.n_target_classes = steps, 1, targets
        theirs.square.n_queries = budget.get("queries", 5000)
        return theirs.run_standard_evaluation(x, y, batch_size=250)[0]


PARTS = {
    "apgd-ce": {"num_steps": 20},
    "apgd-dlr": {"num_steps": 20},
    "apgd-t": {"num_steps": 10, "targets": 3},
    "fab-t": {"num_steps": 10, "targets": 3},
    "square": {"queries": 300},
}


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.12), ("l2", 0.8)])
@pytest.mark.parametrize("name", PARTS)
def test_parts_equal_pyautoattack_on_a_hardened_model(hardened_net, digits, name, norm, eps):
    x, y = digits
    options = {"eps": eps, "norm": norm, **PARTS[name]}
    expected = directly(hardened_net, x, y, seed=5, parts=[name], **options)
    x_adv = make_attack(name, **options)(hardened_net, x, y, seed=5)
    require_same_verdicts(hardened_net, x_adv, expected, y)
    if not name.startswith("apgd"):
        assert torch.equal(x_adv, expected)
    clean, robust = standing(hardened_net, x, y), standing(hardened_net, x_adv, y)
    assert 0 < robust.sum() < clean.sum()
    assert torch.equal(x_adv[~clean], x[~clean])


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.12), ("l2", 0.8)])
def test_custom_suite_equals_pyautoattack_on_a_hardened_model(hardened_net, digits, norm, eps):
    x, y = digits
    parts = ["square", "apgd-ce", "apgd-t", "fab-t"]
    budget = {"num_steps": 10, "queries": 30, "targets": 3, "eps": eps, "norm": norm}
    expected = directly(hardened_net, x, y, seed=6, parts=parts, **budget)
    attack = make_attack("autoattack", version="custom", attacks=parts, **budget)
    require_same_verdicts(hardened_net, attack(hardened_net, x, y, seed=6), expected, y)


@pytest.mark.parametrize("version", ["plus", "rand"])
def test_versions_equal_pyautoattack(trained_net, digits, version):
    # So large a ball that few images get past the first attacks.
    x, y = digits[0][:8], digits[1][:8]
    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    with torch.random.fork_rng(devices=[]):
        theirs = pyautoattack.AutoAttack(
            trained_net, norm="Linf", eps=0.15, seed=3, device="cpu", version=version
        )
        expected, _ = theirs.run_standard_evaluation(x, y, batch_size=250)
    attack = make_attack("autoattack", version=version, eps=0.15)
    x_adv = attack(trained_net, x, y, seed=3)
    require_same_verdicts(trained_net, x_adv, expected, y)
    if version == "rand":  # in which nothing leaves
        assert torch.equal(x_adv, expected)


@pytest.mark.drill
def test_slices_come_within_a_point_of_pyautoattack_on_the_whole_set(hardened_net, digits):
    x, y = digits
    expected = directly(hardened_net, x, y, eps=0.12, norm="linf", seed=0, parts=STANDARD)
    attack = make_attack("autoattack", eps=0.12)
    result = evaluate(hardened_net, (x, y), attack, seed=0, slice_size=20)
    robust = int(standing(hardened_net, expected, y).sum())
    assert abs(result.num_correct - robust) <= len(y) / 100
    assert 0 < robust < standing(hardened_net, x, y).sum()


@pytest.fixture(scope="module")
def cifar(real_file):
    """The real ResNet-20 and 128 images of the CIFAR-10 test set."""
    model = build(
        "dfshield:resnet20",
        num_classes=10,
        weights=real_file("cifar10_resnet20.th"),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    ).eval()
    with np.load(real_file("cifar10_test.npz")) as data:
        x = torch.from_numpy(data["images"][:128]).permute(0, 3, 1, 2).contiguous().float() / 255
        y = torch.from_numpy(data["labels"][:128].astype(np.int64))
    return model, x, y


@pytest.mark.drill
@pytest.mark.slow
@pytest.mark.parametrize(
    ("norm", "eps", "step"),
    [
        ("linf", 0.5 / 255, 0.125 / 255),
        pytest.param("l2", 0.06, 0.015, marks=pytest.mark.drill),
    ],
)
def test_fgsm_and_pgd_agree_with_foolbox_on_resnet20(cifar, norm, eps, step):
    model, x, y = cifar
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    attacks = foolbox.attacks
    fast = {"linf": attacks.FGSM, "l2": attacks.FGM}[norm]()
    iterated = {"linf": attacks.LinfPGD, "l2": attacks.L2PGD}[norm](
        random_start=False, abs_stepsize=step, steps=10
    )
    pairs = [
        (make_attack("fgsm", eps=eps, norm=norm), fast),
        (PGD(eps=eps, norm=norm, num_steps=10, step_size=step, random_start=False), iterated),
    ]
    for ours, theirs in pairs:
        _, _, broken = theirs(wrapped, x, y, epsilons=eps)
        robust = standing(model, ours(model, x, y), y)
        assert (robust == broken).sum() <= 1
        assert 0.1 < robust.float().mean() < 0.85


@pytest.mark.drill
@pytest.mark.parametrize(
    ("name", "count", "options"),
    [
        ("apgd-ce", 128, {}),
        ("fab-t", 32, {"num_steps": 30}),
        ("square", 64, {"queries": 1000}),
    ],
)
def test_parts_agree_with_pyautoattack_on_resnet20(cifar, name, count, options):
    model, x, y = cifar
    x, y = x[:count], y[:count]
    eps = 0.5 / 255 if name != "square" else 2 / 255
    expected = directly(model, x, y, seed=1, parts=[name], eps=eps, norm="linf", **options)
    x_adv = make_attack(name, eps=eps, **options)(model, x, y, seed=1)
    robust = standing(model, x_adv, y)
    assert (robust != standing(model, expected, y)).sum() <= 1
    assert 0 < robust.sum() < standing(model, x, y).sum()


@pytest.mark.drill
@pytest.mark.parametrize("which", ["resnet20", "hardened"])
def test_autoattack_agrees_with_pyautoattack(which, request, digits):
    if which == "resnet20":
        model, x, y = request.getfixturevalue("cifar")
        x, y, eps = x[:16], y[:16], 0.5 / 255
    else:
        model, (x, y), eps = request.getfixturevalue("hardened_net"), digits, 0.12
    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    with torch.random.fork_rng(devices=[]):
        theirs = pyautoattack.AutoAttack(model, norm="Linf", eps=eps, seed=2, device="cpu")
        expected, _ = theirs.run_standard_evaluation(x, y, batch_size=250)
    x_adv = make_attack("autoattack", eps=eps)(model, x, y, seed=2)
    robust = standing(model, x_adv, y)
    assert (robust != standing(model, expected, y)).sum() <= 1
    assert 0 < robust.sum() < standing(model, x, y).sum()
