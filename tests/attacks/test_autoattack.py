"""AutoAttack against pyautoattack called directly, and with few classes."""

import logging
import sys
import warnings

import pyautoattack
import pytest
import torch
from torch import nn

from dfshield.attacks import AutoAttack
from dfshield.errors import DfshieldWarning, InputError


def called_directly(model, x, y, *, eps, norm, seed):
    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    with torch.random.fork_rng(devices=[]):
        adversary = pyautoattack.AutoAttack(model, norm=norm, eps=eps, seed=seed, device="cpu")
        return adversary.run_standard_evaluation(x, y, batch_size=250)


@pytest.mark.drill
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("norm", "theirs", "eps"), [("linf", "Linf", 0.06), ("l2", "L2", 0.5)])
def test_verdicts_on_ten_classes_equal_pyautoattacks(trained_net, digits, norm, theirs, eps):
    x, y = digits[0][:12], digits[1][:12]
    expected, predicted = called_directly(trained_net, x, y, eps=eps, norm=theirs, seed=7)
    x_adv = AutoAttack(eps=eps, norm=norm)(trained_net, x, y, seed=7)
    with torch.no_grad():
        stands = trained_net(x_adv).argmax(1) == y
    assert torch.equal(stands, predicted == y)
    assert torch.equal(x_adv[stands], expected[stands])
    assert 0 < stands.float().mean() < 0.95


class Linear(nn.Module):
    """Logits linear in an image of 16 pixels, from fixed random weights."""

    def __init__(self, num_classes):
        super().__init__()
        draw = torch.Generator().manual_seed(num_classes)
        self.weight = nn.Parameter(torch.randn(num_classes, 16, generator=draw))

    def forward(self, x):
        return (x.flatten(1) - 0.5) @ self.weight.T


def run(num_classes, eps):
    model = Linear(num_classes)
    x = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        y = model(x).argmax(1)
    attack = AutoAttack(eps=eps)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        x_adv = attack(model, x, y)
    with torch.no_grad():
        standing = (model(x_adv).argmax(1) == y).float().mean().item()
    return attack, standing, [str(warning.message) for warning in caught]


@pytest.mark.parametrize(
    "num_classes", [2, *(pytest.param(n, marks=pytest.mark.drill) for n in (3, 4, 9, 10, 100))]
)
def test_any_class_count_works_on_images_that_withstand_everything(num_classes):
    attack, standing, said = run(num_classes, 1e-6)
    assert standing == 1
    assert attack.standard_suite(num_classes) == (num_classes >= 4)
    if num_classes >= 10:
        assert said == []
    elif num_classes >= 4:
        (note,) = said
        assert f"all {num_classes - 1} other classes" in note
    else:
        (note,) = said
        assert "not the standard AutoAttack suite" in note
        ran = {
            2: "ran apgd-ce, fab-t, square",
            3: "ran apgd-ce, apgd-dlr, fab-t, square",
        }[num_classes]
        assert note.endswith(ran)


@pytest.mark.parametrize("num_classes", [2, 3, 9])
def test_few_classes_are_attacked_in_earnest(num_classes):
    # A linear classifier falls within eps 1 wherever there is another class.
    assert run(num_classes, 1.0)[1] == 0


def test_exact_boundary_of_a_linear_classifier_with_two_classes():
    model = Linear(2)
    x = torch.full((1, 1, 4, 4), 0.5) + 0.01 * model.weight[0].sign().view(1, 1, 4, 4).detach()
    y = torch.zeros(1, dtype=torch.long)
    difference = (model.weight[0] - model.weight[1]).detach()
    distance = (((x.flatten(1) - 0.5) @ difference) / difference.abs().sum()).item()
    assert distance > 0

    def falls(eps):
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            return bool(model(AutoAttack(eps=eps)(model, x, y)).argmax(1) != y)

    assert falls(1.05 * distance)
    assert not falls(0.95 * distance)


def test_one_class_is_refused():
    x, y = torch.rand(2, 1, 4, 4), torch.zeros(2, dtype=torch.long)
    with pytest.raises(InputError, match="one number an image, not logits of two or more"):
        AutoAttack(eps=0.1)(Linear(1), x, y)


def test_a_number_of_targets_too_large_would_crash_pyautoattack():
    """What the limit on the number of targets is for."""
    model = Linear(4)
    x = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        y = model(x).argmax(1)
    with pytest.raises(IndexError):
        called_directly(model, x, y, eps=1e-6, norm="Linf", seed=0)


def test_pyautoattacks_warnings_are_passed_on_and_its_chatter_is_not(digits, capsys, caplog):
    class Saturated(nn.Module):
        """Logits that do not change with small changes of the image, but carry a gradient."""

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(10))

        def forward(self, x):
            zero = (x * 0).flatten(1).sum(1, keepdim=True)
            return zero + self.weight + torch.arange(10).flip(0)

    x = digits[0][:5]
    logger = logging.getLogger("auto-attack")
    logger.setLevel(logging.DEBUG)
    with caplog.at_level(logging.DEBUG), pytest.warns(DfshieldWarning) as caught:
        AutoAttack(eps=0.1)(Saturated(), x, torch.zeros(5, dtype=torch.long))
    assert logger.level == logging.DEBUG
    assert logger.propagate
    assert logger.handlers == []
    (warning,) = caught
    assert str(warning.message) == (
        "AutoAttack: there are 5 points with zero gradient! This might lead to unreliable "
        "evaluation with gradient-based attacks."
    )
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == ""
    assert caplog.records == []


def test_a_trace_function_survives(digits, trained_net):
    before = sys.gettrace()

    def trace(frame, event, arg):
        return None

    sys.settrace(trace)
    try:
        AutoAttack(eps=0.5)(trained_net, digits[0][:2], digits[1][:2])
        assert sys.gettrace() is trace
    finally:
        sys.settrace(before)
