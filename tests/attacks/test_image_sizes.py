"""Attacks through pyautoattack on images of every size; Square's result where that can run too."""

import pyautoattack
import pytest
import torch
from torch import nn

from dfshield.attacks import ATTACKS, make_attack, perturbation_norm

NORMS = {"linf": "Linf", "l2": "L2"}
EPS = {"linf": 0.05, "l2": 0.5}
SQUARES = [(side, side) for side in range(1, 41)]
RECTANGLES = [
    *[(24, 32), (28, 20), (64, 48), (28, 32), (12, 30), (14, 9), (18, 24), (19, 5)],
    *[(5, 40), (40, 5), (1, 13), (13, 1), (3, 40), (40, 3), (2, 4), (33, 31)],
]
SIZES = SQUARES + RECTANGLES


class Steadfast(nn.Module):
    """A linear classifier whose first class always wins by far: every attack runs to its end."""

    def __init__(self, channels, height, width, lead=10.0):
        super().__init__()
        draw = torch.Generator().manual_seed(height * width)
        pixels = channels * height * width
        self.weight = nn.Parameter(torch.randn(4, pixels, generator=draw) / pixels)
        self.lead = nn.Parameter(torch.tensor([lead, 0.0, 0.0, 0.0]))
        self.asked = 0

    def forward(self, x):
        self.asked += len(x)
        return x.flatten(1) @ self.weight.T + self.lead


def images(count, channels, height, width, *, low=0.0, high=1.0):
    """Random images, not contiguous, and the label that the classifier gives."""
    draw = torch.Generator().manual_seed(channels)
    stored = torch.rand(count, height, width, channels, generator=draw)
    return (low + (high - low) * stored).permute(0, 3, 1, 2), torch.zeros(count, dtype=torch.long)


def size_of(x_adv, x, norm):
    return perturbation_norm(x_adv.double() - x.double(), norm)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ["square", "autoattack"])
def test_square_runs_on_every_size(name, norm):
    options = {"square": {}, "autoattack": {"version": "custom", "attacks": ["square"]}}[name]
    attack = make_attack(name, eps=EPS[norm], norm=norm, queries=4, **options)
    for channels, (height, width) in [(c, size) for size in SIZES for c in (1, 3)]:
        x, y = images(2, channels, height, width)
        model = Steadfast(channels, height, width)
        before = model.asked
        x_adv = attack(model, x, y, seed=1)
        assert x_adv.shape == x.shape
        assert torch.equal(x_adv, x), (height, width)
        assert model.asked - before >= 2 * 5, "Square has asked for every query"


@pytest.mark.parametrize("norm", NORMS)
def test_what_square_finds_fills_the_ball_on_every_size(norm):
    # Any change of the image breaks it, so that what comes back is where the search ended.
    for channels, (height, width) in [(c, size) for size in SIZES for c in (1, 3)]:
        x, y = images(3, channels, height, width, low=0.3, high=0.7)
        model = Fragile(x)
        eps = min(EPS[norm], 0.2)
        x_adv = ATTACKS["square"](eps=eps, norm=norm, queries=3)(model, x, y, seed=2)
        size = size_of(x_adv, x, norm)
        assert size.max() <= eps + 1e-6
        assert x_adv.min() >= 0
        assert x_adv.max() <= 1
        if max(height, width) < 5 * min(height, width) or height < width:
            assert size.min() > 0.99 * eps, (height, width, size)


class Fragile(nn.Module):
    """Answers the first class for the images it knows and the second one for all others."""

    def __init__(self, x):
        super().__init__()
        self.register_buffer("known", x.clone())

    def forward(self, x):
        apart = torch.cdist(x.flatten(1), self.known.flatten(1)).amin(1)
        # cdist rounds; half a percent of the ball is still the image itself.
        return torch.stack([1e-3 - apart, apart - 1e-3], dim=1)


@pytest.mark.parametrize("norm", NORMS)
def test_square_equals_pyautoattack_where_that_runs_through(norm):
    ran = []
    for height, width in SIZES:
        x, y = images(2, 3, height, width)
        x = x.contiguous()
        # A lead that the search lowers but does not overcome.
        model = Steadfast(3, height, width)
        theirs = pyautoattack.square.SquareAttack(
            model, norm=NORMS[norm], n_queries=30, eps=EPS[norm], seed=7, device="cpu"
        )
        theirs.rescale_schedule = False
        with torch.random.fork_rng(devices=[]):
            try:
                theirs.init_hyperparam(x)
                torch.manual_seed(7)
                used, expected = theirs.attack_single_run(x, y)
            except (RuntimeError, ZeroDivisionError):
                continue
        ran.append((height, width))
        found, queries = _end(model, x, y, norm)
        assert torch.equal(found, expected), (height, width)
        assert torch.equal(queries, used.long())
    assert {(8, 8), (15, 15), (28, 28), (32, 32), (28, 32)} <= set(ran)
    if norm == "l2":
        assert not {(12, 12), (24, 24), (24, 32), (64, 48), (4, 4)} & set(ran)


def _end(model, x, y, norm):
    from dfshield.attacks.pyautoattack_calls import run_square

    return run_square(model, x, y, queries=30, eps=EPS[norm], norm=norm, seed=7)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("size", [(1, 1), (4, 4), (12, 12), (24, 24), (24, 32), (5, 40), (40, 5)])
def test_every_part_of_the_suite_runs_on_odd_sizes(size, norm):
    parts = ["apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square"]
    attack = make_attack(
        "autoattack", version="custom", attacks=parts, num_steps=3, queries=3, eps=0.1, norm=norm
    )
    x, y = images(2, 3, *size)
    assert torch.equal(attack(Steadfast(3, *size), x, y), x)
    x_adv = attack(Steadfast(3, *size, lead=1e-4), x, y)
    assert size_of(x_adv, x, norm).max() <= 0.1 + 1e-6


class Tied(nn.Module):
    """The first two classes tie, or one of them is NaN, for every image but those it knows."""

    def __init__(self, x, value):
        super().__init__()
        self.register_buffer("known", x.clone())
        self.value = value

    def forward(self, x):
        logits = torch.zeros(len(x), 3)
        logits[:, 2] = -1
        same = (x[:, None] == self.known[None]).flatten(2).all(2).any(1)
        logits[:, 0] = torch.where(same, 1.0, self.value)
        return logits


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_square_ends_where_every_logit_ties_or_is_nan(value, norm):
    x, y = images(3, 1, 8, 8)
    outcome = ATTACKS["square"](eps=0.1, norm=norm, queries=5).run(Tied(x, value), x, y)
    assert outcome.queries.tolist() == [2, 2, 2], "the image itself and the start"
    # A tie goes to the first class, which is right; what is not a number is not.
    assert torch.equal(outcome.images, x) == (value == 0)
