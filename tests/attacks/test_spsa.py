"""SPSA against what it estimates, and what it costs."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dfshield.attacks import PGD, SPSA
from dfshield.attacks.losses import margin


class Recording(nn.Module):
    """Keeps everything that it is asked about."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.seen = []

    def forward(self, x):
        self.seen.append(x.detach().clone())
        return self.model(x)


def margins(model, x, y):
    with torch.no_grad():
        return margin(model(x), y)


def test_estimate_is_the_gradient_of_a_linear_margin():
    weight = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))

    class Linear(nn.Module):
        def forward(self, x):
            return x.flatten(1) @ weight.T

    image, label = torch.full((1, 4, 4), 0.5), torch.tensor(0)
    attack = SPSA(eps=0.1, samples=20_000, batch_size=1000)
    estimate = attack._estimate(Linear(), image, label, np.random.default_rng(0))
    expected = (weight[1] - weight[0]).view(1, 4, 4)
    torch.testing.assert_close(estimate, expected, atol=0.15, rtol=0)


def test_model_is_asked_near_the_adversarial_image_and_nowhere_else(hardened_net, digits):
    """The defect of a well-known port: it asks at 2 x + delta, far outside the ball."""
    x, y = digits[0][:4], digits[1][:4]
    model = Recording(hardened_net)
    SPSA(eps=0.05, num_steps=9, samples=8, delta=0.01)(model, x, y)
    queries = torch.cat(model.seen)
    assert len(queries) > 4 * 4 * 16
    nearest = (queries.unsqueeze(1) - x.unsqueeze(0)).abs().amax(dim=(2, 3, 4)).amin(1)
    assert nearest.max() <= 0.05 + 0.01 + 1e-6
    assert nearest.max() > 0.05


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 0.8)])
def test_it_raises_the_margin_and_is_no_stronger_than_pgd(hardened_net, digits, norm, eps):
    x, y = digits[0][:40], digits[1][:40]
    x_adv = SPSA(eps=eps, norm=norm, num_steps=20, samples=32, learning_rate=0.02)(
        hardened_net, x, y
    )
    right = margins(hardened_net, x, y) < 0
    assert (margins(hardened_net, x_adv, y) > margins(hardened_net, x, y))[right].all()
    robust = (margins(hardened_net, x_adv, y) < 0).sum()
    white_box = margins(hardened_net, PGD(eps=eps, norm=norm)(hardened_net, x, y), y) < 0
    assert white_box.sum() - 1 <= robust < right.sum()


def test_queries_are_counted_until_an_image_is_broken(trained_net, digits):
    x, y = digits[0][:20], digits[1][:20]
    model = Recording(trained_net)
    outcome = SPSA(eps=0.15, num_steps=6, samples=16, learning_rate=0.05).run(model, x, y)
    clean_wrong = margins(trained_net, x, y) > 0
    broken = margins(trained_net, outcome.images, y) > 0
    assert (outcome.queries[clean_wrong] == 1).all()
    assert (outcome.queries[~broken] == 1 + 6 * 33).all()
    assert ((outcome.queries - 1) % 33 == 0).all()
    assert outcome.queries[broken & ~clean_wrong].min() < 1 + 6 * 33
    # The one more is the check that the model carries a gradient, which reads nothing.
    assert sum(map(len, model.seen)) == outcome.queries.sum() + 1


def test_no_gradient_is_needed(digits):
    class Quantised(nn.Module):
        """Rounds its input to steps of 1/8: the gradient is zero, the differences are not."""

        def __init__(self):
            super().__init__()
            draw = torch.Generator().manual_seed(0)
            self.weight = nn.Parameter(torch.randn(10, 64, generator=draw))

        def forward(self, x):
            return F.linear((x * 8).round().flatten(1) / 8, self.weight)

    x = digits[0][:10]
    model = Quantised()
    with torch.no_grad():
        y = model(x).argmax(1)
    options = {"eps": 0.2, "num_steps": 10}
    assert (margins(model, PGD(random_start=False, **options)(model, x, y), y) < 0).all()
    x_adv = SPSA(delta=0.1, learning_rate=0.05, **options)(model, x, y)
    assert (margins(model, x_adv, y) > 0).float().mean() > 0.5
