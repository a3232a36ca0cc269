"""The contract over attacks, norms, class counts and channels, on tiny classifiers."""

import warnings

import numpy as np
import pytest
import torch
from attack_table import CASES, quick
from torch import nn

from dfshield.attacks import ATTACKS, perturbation_norm
from dfshield.errors import DfshieldWarning

CLASSES = (2, 3, 4, 10, 100, 1000)
CHANNELS = (1, 3)
EPS = {"linf": 0.1, "l2": 0.6}
# Images 0 and 3 carry a label that the classifier does not predict.
BROKEN = torch.tensor([0, 3])
STANDING = torch.tensor([1, 2, 4, 5])


class Tiny(nn.Module):
    """Two linear layers with fixed random weights, and BatchNorm that would notice train mode."""

    def __init__(self, channels, num_classes, seed=0):
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(36 * channels, 16),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(16, num_classes),
        )
        with torch.no_grad():
            for parameter in self.layers[1], self.layers[5]:
                shape = parameter.weight.shape
                parameter.weight.copy_(torch.randn(shape, generator=draw) / shape[1] ** 0.5)
                parameter.bias.zero_()

    def forward(self, x):
        return self.layers(2 * x - 1)


def subject(channels, num_classes):
    """A classifier, one like it, six images, and labels of which two are wrong."""
    model = Tiny(channels, num_classes).eval()
    draw = torch.Generator().manual_seed(num_classes)
    candidates = torch.rand(64, channels, 6, 6, generator=draw).round(decimals=1)
    with torch.no_grad():
        logits = model(candidates)
    # Four that do not all share one class, so that a guide of another class is there.
    predicted = logits.argmax(1)
    first, second = [(predicted == k).nonzero().flatten() for k in predicted.unique()[:2]]
    chosen = torch.cat([first[:1], second[:1], first[-2:], second[-2:]])[:6]
    x, y = candidates[chosen], predicted[chosen].clone()
    y[BROKEN] = (y[BROKEN] + 1) % num_classes
    return model, Tiny(channels, num_classes, seed=1).eval(), x, y


def attacked(attack, model, x, y, seed=3):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DfshieldWarning)
        return attack(model, x, y, seed=seed)


@pytest.fixture(params=CASES, ids="-".join)
def case(request):
    return request.param


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("num_classes", CLASSES)
def test_contract(case, num_classes, channels):
    name, norm = case
    model, other, x, y = subject(channels, num_classes)
    attack = quick(name, norm, other=other, eps=EPS[norm])
    model.layers.train()
    model.layers[2].eval()
    model.layers[1].weight.requires_grad_(False)
    modes = [module.training for module in (*model.modules(), *other.modules())]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    flags = [parameter.requires_grad for parameter in (*model.parameters(), *other.parameters())]
    torch_state = torch.random.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002

    before = x.clone()
    x_adv = attacked(attack, model, x, y)

    # In the ball and in range, and nothing else changed.
    assert x_adv.shape == x.shape
    assert x_adv.dtype == x.dtype
    assert not x_adv.requires_grad
    assert torch.equal(x, before)
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    size = perturbation_norm(x_adv.double() - x.double(), norm)
    assert size.max() <= attack.eps + 1e-6
    assert [module.training for module in (*model.modules(), *other.modules())] == modes
    assert [p.requires_grad for p in (*model.parameters(), *other.parameters())] == flags
    assert all(p.grad is None for p in (*model.parameters(), *other.parameters()))
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002

    # Images that are wrong already come back as they are.
    assert torch.equal(x_adv[BROKEN], x[BROKEN])
    assert torch.equal(attacked(attack, model, x[BROKEN], y[BROKEN]), x[BROKEN])

    # The seed decides, and nothing else does.
    torch.manual_seed(0)
    assert torch.equal(attacked(attack, model, x, y), x_adv)

    # No image gives no image.
    nothing = attack.run(model, x[:0], y[:0])
    assert nothing.images.shape == (0, channels, 6, 6)


INDEPENDENT = [case for case in CASES if ATTACKS[case[0]].independent]


@pytest.mark.parametrize("num_classes", [2, 10])
@pytest.mark.parametrize(("name", "norm"), INDEPENDENT)
def test_an_image_is_attacked_the_same_beside_other_images(name, norm, num_classes):
    model, other, x, y = subject(1, num_classes)
    # In float64: what remains is not rounding.
    model, other, x = model.double(), other.double(), x.double()
    attack = quick(name, norm, other=other, eps=EPS[norm])
    x_adv = attacked(attack, model, x, y)
    assert not torch.equal(x_adv[2], x[2])
    mates, labels = x.flip(2, 3), y.clone()
    mates[2] = x[2]
    with torch.no_grad():
        labels[[0, 1, 3]] = model(mates).argmax(1)[[0, 1, 3]]
    labels[[4, 5]] = (model(mates).argmax(1)[[4, 5]] + 1) % num_classes
    again = attacked(attack, model, mates, labels)
    torch.testing.assert_close(again[2], x_adv[2], atol=1e-9, rtol=0)


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_images_in_channels_last_order_are_attacked_the_same(name, norm):
    model, other, x, y = subject(3, 10)
    attack = quick(name, norm, other=other, eps=EPS[norm])
    turned = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(attacked(attack, model, turned, y), attacked(attack, model, x, y))
    model.to(memory_format=torch.channels_last)
    size = perturbation_norm(attacked(attack, model, turned, y) - x, norm)
    assert size.max() <= attack.eps + 1e-6


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_every_attack_breaks_something(name, norm):
    """With a ball that holds everything; the quick options would let weak attacks pass idle."""
    model, other, x, y = subject(1, 10)
    x, y = x[STANDING], y[STANDING]
    eps = {"linf": 1, "l2": "6/1"}[norm]
    attack = quick(name, norm, other=model if name == "transfer" else other, eps=eps)
    with torch.no_grad():
        assert (model(attacked(attack, model, x, y)).argmax(1) != y).any()


def test_few_classes_are_said():
    for name, num_classes, word in [
        ("apgd-t", 3, "ran apgd-dlr instead"),
        ("apgd-t", 2, "ran apgd-ce instead"),
        ("apgd-dlr", 2, "ran apgd-ce instead"),
        ("fab-t", 2, "all 1 other classes"),
        ("autoattack", 2, "there is no DLR loss"),
        ("autoattack", 3, "there is no targeted DLR loss"),
    ]:
        model, other, x, y = subject(1, num_classes)
        with pytest.warns(DfshieldWarning, match=word):
            quick(name, "linf", other=other, eps=0.01)(model, x, y)
