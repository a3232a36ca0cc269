"""The latent-feature attack, and finding the penultimate features of any classifier."""

import pytest
import torch
from torch import nn

from dfshield.attacks import PGD, Latent
from dfshield.attacks.penultimate import feature_map, find_head
from dfshield.classifiers import build
from dfshield.errors import DfshieldWarning, InputError


class Unusual(nn.Module):
    """Its head is defined first and applied through a temperature; another layer comes last."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(12, 5)
        self.body = nn.Linear(64, 12)
        self.unused = nn.Linear(3, 5)

    def forward(self, x):
        return self.head(torch.tanh(self.body(x.flatten(1)))) / 10


class ConvHead(nn.Module):
    """Classifies by a 1 x 1 convolution, averaged afterwards."""

    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(1, 6, 3)
        self.head = nn.Conv2d(6, 5, 1)

    def forward(self, x):
        return self.head(self.body(x).relu()).mean(dim=(2, 3))


@pytest.mark.parametrize(
    ("source", "size", "name", "width"),
    [
        ("dfshield:resnet8", (1, 8, 8), None, 64),
        ("medmnist:resnet18", (3, 28, 28), None, 512),
        ("pytorchcv:resnet20_cifar10", (3, 32, 32), "network.output", 64),
    ],
)
def test_head_of_the_families(source, size, name, width):
    options = {} if name else {"input_shape": size, "num_classes": 10}
    model = build(source, **options).eval()
    image = torch.rand(1, *size)
    head = find_head(model, image, None)
    assert isinstance(head, nn.Linear)
    features = feature_map(model, head)(image)
    assert features.shape == (1, width)
    torch.testing.assert_close(head(features), model(image))
    if name is not None:
        assert find_head(model, image, name) is head


@pytest.mark.parametrize("model", [Unusual(), ConvHead()], ids=["unusual", "convolution"])
def test_head_is_found_by_the_order_of_the_forward_pass(model):
    assert find_head(model, torch.rand(1, 1, 8, 8), None) is model.head
    assert model.head._forward_hooks == {}
    assert model.body._forward_hooks == {}


def test_where_nothing_is_found_the_name_is_asked_for(digits):
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            draw = torch.Generator().manual_seed(0)
            self.weight = nn.Parameter(torch.randn(10, 64, generator=draw))
            self.body = nn.Identity()

        def forward(self, x):
            return self.body(x.flatten(1)) @ self.weight.T

    x, model = digits[0][:6], Bare()
    with torch.no_grad():
        y = model(x).argmax(1)
    with pytest.raises(InputError, match="layer: no linear or convolutional"):
        Latent(eps=0.1)(model, x, y)
    assert not torch.equal(Latent(eps=0.1, layer="body")(model, x, y), x)
    with pytest.raises(InputError, match="layer: the model has no 'bdy': did you mean 'body'"):
        Latent(eps=0.1, layer="bdy")(model, x, y)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unusual = Unusual()
    y = unusual(x).argmax(1)
    assert len(y.unique()) > 1  # there is a guide
    with pytest.raises(InputError, match="does not use it"):
        Latent(eps=0.1, layer="unused")(unusual, x, y)


def test_features_move_towards_an_image_of_another_class(trained_net, digits):
    x, y = digits[0][:10], digits[1][:10]
    x_adv = Latent(eps=0.1)(trained_net, x, y, seed=1)
    features = feature_map(trained_net, trained_net[-1])
    with torch.no_grad():
        before, after = features(x), features(x_adv)
    right = (trained_net(x).argmax(1) == y).nonzero().flatten()
    for place in right.tolist():
        guides = before[y != y[place]]
        was = ((guides - before[place]) ** 2).sum(1)
        now = ((guides - after[place]) ** 2).sum(1)
        # The guide is one of them; towards it the distance falls by a tenth at least.
        assert (now / was).min() < 0.9
    assert (x_adv - x).abs().max() <= 0.1 + 1e-6
    assert not torch.equal(x_adv, Latent(eps=0.1)(trained_net, x, y, seed=2))


def test_more_steps_come_closer(trained_net, digits):
    x, y = digits[0][:6], digits[1][:6]
    features = feature_map(trained_net, trained_net[-1])

    def closest(steps):
        x_adv = Latent(eps=0.2, num_steps=steps)(trained_net, x, y, seed=3)
        with torch.no_grad():
            between = torch.cdist(features(x_adv), features(x))
        return between.masked_fill(y.view(-1, 1) == y, float("inf")).amin(1).mean()

    assert closest(40) < closest(3)


def test_pgd_beats_it(hardened_net, digits):
    x, y = digits[0][:40], digits[1][:40]

    def robust(attack):
        with torch.no_grad():
            return (hardened_net(attack(hardened_net, x, y)).argmax(1) == y).sum()

    assert robust(PGD(eps=0.1)) <= robust(Latent(eps=0.1, num_steps=30))


def test_a_batch_of_one_class_is_said(trained_net, digits):
    x, y = digits
    same = (y == y[0]) & (trained_net(x).argmax(1) == y)
    with pytest.warns(DfshieldWarning, match=f"latent attack on {int(same.sum())} images"):
        x_adv = Latent(eps=0.1)(trained_net, x[same], y[same])
    assert torch.equal(x_adv, x[same])
