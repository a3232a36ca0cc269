"""Loss surfaces: directions by definition, a quadratic by its formula, PGD by a plain loop."""

import numpy as np
import pytest
import torch
from torch import nn

from dfshield.errors import InputError
from dfshield.evaluation.surface import (
    AdversarialLoss,
    filter_normalised,
    losses_around,
    mean_rise,
)


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
        )
    return model.eval()


def images(n=6):
    rng = np.random.default_rng(1)
    x = torch.from_numpy(rng.random((n, 1, 6, 6), dtype=np.float32))
    return x, torch.arange(n) % 3


def test_every_filter_of_a_direction_is_as_long_as_that_of_the_weights():
    model = network()
    conv, conv_bias, scale, shift, linear, bias = filter_normalised(model, np.random.default_rng(0))
    for direction, weight in ((conv, model[0].weight), (linear, model[4].weight)):
        expected = weight.detach().flatten(1).norm(dim=1)
        torch.testing.assert_close(direction.flatten(1).norm(dim=1), expected)
    for direction in (conv_bias, scale, shift, bias):
        assert not direction.any()


def test_models_of_one_architecture_share_the_draws():
    directions = [filter_normalised(network(s), np.random.default_rng(3)) for s in (0, 1)]
    units = [torch.nn.functional.normalize(d[0].flatten(1), dim=1) for d in directions]
    torch.testing.assert_close(units[0], units[1])


def test_the_surface_of_a_quadratic_is_its_formula_and_the_weights_come_back():
    model = nn.Linear(5, 1, bias=False)
    before = model.weight.detach().clone()
    curvature = torch.linspace(0.5, 4.0, 5)
    first, second = (torch.randn(1, 5, generator=torch.Generator().manual_seed(n)) for n in (0, 1))

    def loss(m):
        return float((curvature * (m.weight.detach() - before) ** 2).sum() / 2)

    points = [(u, v) for u in (-1.0, 0.0, 0.5) for v in (-0.5, 0.0, 1.0)]
    found = list(losses_around(model, ((first,), (second,)), points, loss))
    moved = [u * first + v * second for u, v in points]
    assert found == pytest.approx([float((curvature * m**2).sum() / 2) for m in moved], rel=1e-5)
    assert torch.equal(model.weight, before)


def test_the_weights_come_back_after_an_error():
    model = network()
    before = [p.detach().clone() for p in model.parameters()]
    directions = tuple(filter_normalised(model, np.random.default_rng(n)) for n in (0, 1))
    with pytest.raises(ZeroDivisionError):
        list(losses_around(model, directions, [(1.0, 1.0)], lambda m: 1 / 0))
    assert all(map(torch.equal, before, model.parameters()))


def test_the_mean_rise_of_a_quadratic_bowl():
    at = np.linspace(-1, 1, 201)
    u, v = np.meshgrid(at, at)
    # The mean of (a cos² + b sin²) r² / 2 over a circle is r² (a + b) / 4.
    assert mean_rise(2.0 + (3 * u**2 + 5 * v**2) / 2, at, 0.5) == pytest.approx(0.5, abs=1e-3)
    assert mean_rise(u + 2 * v, at, 1.0) == pytest.approx(0.0, abs=1e-12)


def test_the_loss_is_that_of_a_plain_loop_of_pgd():
    model, (x, y) = network(), images()
    eps, steps = 0.1, 3
    start = np.random.default_rng(np.random.SeedSequence(7, spawn_key=(0,)))
    x_adv = (x + torch.from_numpy(start.uniform(-eps, eps, size=tuple(x.shape))).float()).clamp(
        0, 1
    )
    for _ in range(steps):
        x_adv = x_adv.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(
            nn.functional.cross_entropy(model(x_adv), y, reduction="sum"), [x_adv]
        )
        x_adv = x_adv + eps / 4 * gradient.sign()
        x_adv = (x + (x_adv - x).clamp(-eps, eps)).clamp(0, 1)
    expected = float(nn.functional.cross_entropy(model(x_adv.detach()), y))
    found = AdversarialLoss(eps, num_steps=steps, seed=7)(model, x, y)
    assert found == pytest.approx(expected, rel=1e-6)
    clean = AdversarialLoss(0.0)(model, x, y)
    assert clean == pytest.approx(float(nn.functional.cross_entropy(model(x), y)), rel=1e-6)
    assert clean < found


def test_wrong_arguments_are_named():
    for wrong, name in (
        ({"eps": -0.1}, "eps"),
        ({"eps": 0.1, "norm": "l1"}, "norm"),
        ({"eps": 0.1, "num_steps": 0}, "num_steps"),
        ({"eps": 0.1, "step_size": 0.0}, "step_size"),
    ):
        with pytest.raises(InputError, match=name):
            AdversarialLoss(**wrong)
