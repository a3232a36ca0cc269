"""A3: its schedule, its directions, what it discards, its budget, and how strong it is."""

import numpy as np
import pytest
import torch
from torch import nn

from dfshield.attacks import A3, PGD, AutoAttack, perturbation_norm
from dfshield.attacks.a3_schedule import (
    NUM_ROUNDS,
    Learned,
    directions,
    rivals,
    round_of,
    step_size,
)


def robust(model, x, y):
    with torch.no_grad():
        return int((model(x).argmax(1) == y).sum())


STRONGEST = {"version": "custom", "attacks": "apgd-ce,apgd-t"}
"""Of AutoAttack's parts; FAB and Square, which take most of its time, break no more here."""


@pytest.mark.parametrize("suite", [STRONGEST, pytest.param({}, marks=pytest.mark.drill)])
def test_within_a_point_of_autoattack_on_a_hardened_model(hardened_net, digits, suite):
    x, y = digits
    suite = AutoAttack(eps=0.12, **suite)
    attack = A3(eps=0.12, budget=150)
    theirs = robust(hardened_net, suite(hardened_net, x, y), y)
    ours = robust(hardened_net, attack(hardened_net, x, y), y)
    assert 0 < theirs < robust(hardened_net, x, y) - 20
    assert abs(ours - theirs) <= len(y) / 100


class Linear(nn.Module):
    """Logits linear in an image of 16 pixels; counts the images that it is asked about."""

    def __init__(self, num_classes):
        super().__init__()
        draw = torch.Generator().manual_seed(num_classes)
        self.weight = nn.Parameter(torch.randn(num_classes, 16, generator=draw))
        self.asked = []

    def forward(self, x):
        if torch.is_grad_enabled():
            self.asked.append(len(x))
        return (x.flatten(1) - 0.5) @ self.weight.T


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_exact_boundary_of_a_linear_classifier(norm):
    model, order = Linear(3), 1 if norm == "linf" else 2
    draw = torch.Generator().manual_seed(5)
    x = 0.5 + 0.05 * torch.randn(4, 1, 4, 4, generator=draw)
    with torch.no_grad():
        logits = model(x)
        y = logits.argmax(1)
        gaps = logits.gather(1, y.view(-1, 1)) - logits
        slopes = (model.weight[y].unsqueeze(1) - model.weight).norm(p=order, dim=2)
        distance = (gaps / slopes).masked_fill(slopes == 0, float("inf")).amin(1)
    for place in range(len(x)):
        one, label = x[[place]], y[[place]]
        for share, stands in ((0.97, 1), (1.03, 0)):
            attack = A3(eps=share * float(distance[place]), norm=norm, budget=300)
            assert robust(model, attack(model, one, label), label) == stands


def test_what_withstands_comes_back_where_its_margin_was_largest():
    model = Linear(4)
    x = torch.rand(20, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        y = model(x).argmax(1)
    x_adv = A3(eps=1e-4, budget=60)(model, x, y)
    with torch.no_grad():
        assert torch.equal(model(x_adv).argmax(1), y)
        gap = [
            (z.gather(1, y.view(-1, 1)) - z.topk(2).values[:, 1:]).flatten()
            for z in (model(x), model(x_adv))
        ]
    assert (gap[1] < gap[0]).all()
    assert perturbation_norm(x_adv - x, "linf").min() > 0.9e-4


class Tower(nn.Module):
    """The brighter an image, the further it is from its boundary; remembers what it is asked."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.asked = []

    def forward(self, x):
        if torch.is_grad_enabled():
            self.asked.append(x.detach().flatten(1).mean(1))
        bright = self.scale * x.flatten(1).mean(1)
        return torch.stack([bright, -bright, -2 * bright], dim=1)


def test_later_rounds_attack_those_closest_to_failing():
    levels = torch.linspace(0.2, 0.9, 240)
    x, y = levels.view(-1, 1, 1, 1).expand(-1, 1, 2, 2).clone(), torch.zeros(240).long()
    model = Tower()
    A3(eps=1e-5, budget=130)(model, x, y, seed=2)
    runs = [model.asked[0]]
    for asked in model.asked[1:]:
        if len(asked) != len(runs[-1]):
            runs.append(asked)
    assert [len(run) for run in runs][1:6] == [240, 168, 144, 120, 100]
    for run in runs[1:]:
        torch.testing.assert_close(run, levels[: len(run)], rtol=0, atol=1e-4)  # the darkest


@pytest.mark.parametrize("budget", [10, 40, 200])
def test_the_budget_bounds_the_gradients(budget):
    model = Linear(5)
    x = torch.rand(30, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        y = model(x).argmax(1)
    model.asked.clear()
    A3(eps=1e-4, budget=budget)(model, x, y)
    longest = 7 + 15 + 1
    assert budget * 30 - 30 < sum(model.asked) <= (budget + longest + 15) * 30


class Flat(nn.Module):
    """The likely rival is flat: the margin has no gradient, another class is what breaks images."""

    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(400.0))

    def forward(self, x):
        rise = self.slope * (x.flatten(1).mean(1) - 0.5)
        still = torch.zeros_like(rise)
        return torch.stack([still, still - 0.1, rise - 10], dim=1)


def test_directions_break_what_the_margin_has_no_gradient_for():
    model, x, y = Flat(), torch.full((40, 1, 4, 4), 0.5), torch.zeros(40).long()
    assert robust(model, PGD(eps=0.03, num_steps=50, loss="cw")(model, x, y), y) == 40
    assert robust(model, A3(eps=0.03, budget=100)(model, x, y), y) == 0


def test_schedule_is_the_published_one():
    def totals(num_classes, *, masked):
        rounds = [
            round_of(number, num_classes, masked=masked, few_stand=False)
            for number in range(NUM_ROUNDS)
        ]
        return [one.share for one in rounds], sum(one.restarts for one in rounds), rounds

    shares, runs, rounds = totals(10, masked=False)
    assert shares == [1, 1, 1, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.1, 0.065, 0.03]
    assert runs == 10 + 4 + 4 + 50
    # Its released settings call the sum of directed steps and max_iter the steps on the margin.
    assert [(r.num_steps - r.directed, r.directed) for r in rounds[:4]] == [
        *((8, 0), (8, 7), (8, 7), (25, 7)),
    ]
    assert totals(10, masked=True)[1] == 3 + 10 + 6 + 5 + 5 + 20
    assert totals(1000, masked=False)[1] == runs + 12 + (32 - 50)
    few = round_of(5, 10, masked=False, few_stand=True)
    assert (few.share, few.restarts) == (1, 11)


def test_steps_fall_from_eps_by_a_cosine():
    for num_steps, least in ((9, 0.1), (61, 0.001)):
        sizes = [step_size(step, num_steps, 2.0) for step in range(num_steps)]
        assert sizes[0] == 2.0
        assert sizes == sorted(sizes, reverse=True)
        assert 2 * least < sizes[-1] < 2 * least + 0.25
        half = step_size((num_steps + 1) // 2, num_steps, 2.0)
        assert half == pytest.approx(1 + least)


def test_rivals_are_the_other_classes_from_the_largest_logit_down():
    logits = torch.tensor([[3.0, 1, 2, 0], [0.0, 5, 5, 1], [1.0, 9, 2, 3]])
    found = rivals(logits, torch.tensor([0, 3, 2]))
    assert found.tolist() == [[2, 1, 3], [1, 2, 0], [1, 3, 0]]


def drawn(num_classes, *, number, turn=0, masked=False, learned=(0.0, 0.0)):
    labels = torch.zeros(400, dtype=torch.long)
    others = torch.arange(1, num_classes).expand(400, -1)
    return directions(
        np.random.default_rng(0),
        labels,
        others,
        number=number,
        turn=turn,
        masked=masked,
        learned=Learned(*learned),
    )


def test_directions_are_random_before_anything_is_learned():
    w = drawn(10, number=1, learned=(1.0, 1.0))
    assert w.abs().max() <= 1
    assert w.mean(0).abs().max() < 0.15
    assert w.std(0).min() > 0.5


@pytest.mark.parametrize("num_classes", [2, 3, 10, 100, 1000])
@pytest.mark.parametrize("masked", [False, True])
def test_label_and_rival_are_set_from_the_third_round_on(num_classes, masked):
    free = drawn(num_classes, number=1)
    cut = {2: 1, 3: 2, 10: 9, 100: 14, 1000: 20}[num_classes]
    for number, most in ((2, cut), (11, cut if masked else min(cut, 4) if cut <= 9 else cut)):
        for turn in (0, 1, most - 1, most, 60):
            w = drawn(num_classes, number=number, turn=turn, masked=masked)
            rival = 1 + turn % most
            assert torch.allclose(w[:, rival], torch.tensor(0.8 * num_classes / 10))
            assert (w[:, 0] == w[0, 0]).all()
            assert w[0, 0].abs() <= 0.8 * num_classes / 10
            rest = [k for k in range(1, num_classes) if k != rival]
            assert torch.equal(w[:, rest], free[:, rest])


@pytest.mark.parametrize("label", [-2.0, 2.0])
@pytest.mark.parametrize("wrong", [-2.0, 2.0])
def test_signs_follow_what_broke_images_with_up_to_ten_classes(label, wrong):
    w = drawn(10, number=3, learned=(label, wrong))
    assert torch.equal(w[:, 1].sign(), torch.full((400,), wrong).sign())
    low, high = (-0.1, 0.5) if label > 0 else (-0.5, 0.1)
    assert low <= w[0, 0] <= high
    many = drawn(100, number=3, learned=(label, wrong))
    assert (many[:, 1] > 0).all()
    assert -5 <= many[0, 0] <= 1


def test_what_is_learned_is_the_sum_of_the_entries():
    learned = Learned()
    w = torch.tensor([[0.5, -1.0, 0.25], [1.0, 0.5, -0.75]])
    learned.add(w, torch.tensor([0, 2]), torch.tensor([1, 0]))
    assert learned == Learned(label=0.5 - 0.75, wrong=-1.0 + 1.0)
    learned.add(w[:0], torch.tensor([], dtype=torch.long), torch.tensor([], dtype=torch.long))
    assert learned == Learned(label=-0.25, wrong=0.0)
