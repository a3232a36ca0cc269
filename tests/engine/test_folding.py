"""BatchNorm folded into convolutions: the same function, and where it is left alone."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from dfshield.classifiers import Classifier, batchnorm_layers, build
from dfshield.engine.folding import ROUNDING, fold_batchnorm

IMAGES = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def with_statistics(module):
    """Return the module in eval mode, as if it had been trained."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.running_mean.normal_(0.0, 0.3, generator=draw)
                layer.running_var.uniform_(0.3, 2.0, generator=draw)
                if layer.affine:
                    layer.weight.normal_(0.0, 1.0, generator=draw)
                    layer.bias.normal_(0.0, 0.5, generator=draw)
    return module.eval()


def classifier_of(*layers):
    torch.manual_seed(0)
    network = nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return wrapped(network)


def wrapped(network):
    with torch.random.fork_rng(devices=[]):
        return Classifier.wrap(with_statistics(network), input_shape=(3, 16, 16))


def resnet(name, **options):
    return with_statistics(build(name, **options))


OWN = {"input_shape": (3, 16, 16), "num_classes": 5, "mean": [0.5] * 3, "std": [0.25] * 3}
NETWORKS = {
    "resnet20": (lambda: resnet("dfshield:resnet20", **OWN), 19, 19),
    "medmnist": (
        lambda: resnet("medmnist:resnet18", **{**OWN, "input_shape": (3, 28, 28)}),
        20,
        20,
    ),
    "before the convolution": (lambda: resnet("pytorchcv:wrn16_10_cifar10"), 7, 13),
    "with a bias": (
        lambda: classifier_of(
            nn.Conv2d(3, 4, 3, stride=2, padding=1, padding_mode="reflect"),
            nn.BatchNorm2d(4),
            nn.Conv2d(4, 8, 3, groups=2),
            nn.BatchNorm2d(8, affine=False, eps=1e-2),
        ),
        2,
        2,
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_folded_is_the_same_function_in_float64_and_as_near_in_float32(name):
    make, folded, layers = NETWORKS[name]
    classifier = make()
    size = classifier.input_shape[-1]
    images = torch.rand(4, 3, size, size, generator=torch.Generator().manual_seed(1))
    normalised = classifier.normalise(images)
    exact = deepcopy(classifier).network.double()
    assert len(batchnorm_layers(classifier)) == layers
    before = {key: value.clone() for key, value in classifier.state_dict().items()}
    twin = deepcopy(classifier, {id(p): p for p in classifier.parameters()})
    assert len(fold_batchnorm(twin)) == folded
    assert len(batchnorm_layers(twin)) == layers - folded
    assert all(torch.equal(value, before[key]) for key, value in classifier.state_dict().items())
    in_double = deepcopy(classifier)
    in_double.network.double()
    fold_batchnorm(in_double)
    with torch.no_grad():
        expected = exact(normalised.double())
        scale = expected.abs().max()
        assert (in_double.network(normalised.double()) - expected).abs().max() <= 1e-10 * scale
        error = (twin(images) - expected).abs().max()
        of_plain = (classifier(images) - expected).abs().max()
    assert error <= 4 * of_plain.clamp_min(torch.finfo(torch.float32).eps * scale)


class Reused(nn.Module):
    """Code around a convolution and BatchNorm."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, x):
        features = self.conv(x)
        if self.how == "the convolution's answer is used twice":
            features = self.norm(features) + features
        elif self.how == "the convolution is used twice":
            features = self.norm(self.conv(features))
        elif self.how == "the layer is used twice":
            features = self.norm(self.norm(features))
        elif self.how == "the weights are used elsewhere":
            features = self.norm(features) * self.conv.weight.sum()
        elif self.how == "random numbers":
            features = self.norm(features) + torch.randn(3, 1, 1)
        elif self.how == "code that depends on the images":
            features = self.norm(features) if features.mean() < 1e9 else features
        else:
            features = self.norm(features)
        return features.relu().mean((2, 3))


@pytest.mark.parametrize(
    "how",
    [
        "the convolution's answer is used twice",
        "the convolution is used twice",
        "the layer is used twice",
        "the weights are used elsewhere",
        "random numbers",
        "code that depends on the images",
    ],
)
def test_where_folding_would_change_the_function_the_layer_stays(how):
    classifier = wrapped(Reused(how))
    assert fold_batchnorm(classifier) == ()
    assert isinstance(classifier.network.norm, nn.BatchNorm2d)


class Wilful(nn.BatchNorm2d):
    """Normalises in a way of its own."""

    def forward(self, features):
        return 2 * super().forward(features)


@pytest.mark.parametrize(
    "layers",
    [
        (nn.Conv2d(3, 4, 3), Wilful(4)),
        (weight_norm(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4)),
        (nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)),
    ],
    ids=["a forward pass of its own", "a parametrized convolution", "no convolution before it"],
)
def test_layers_that_are_not_plain_ones_stay(layers):
    assert fold_batchnorm(classifier_of(*layers)) == ()


def test_layers_with_hooks_stay():
    classifier = wrapped(Reused("plainly"))
    seen = []
    classifier.network.conv.register_forward_hook(lambda _, __, out: seen.append(out))
    assert fold_batchnorm(classifier) == ()


def test_a_layer_that_rounding_would_change_stays_and_others_are_folded():
    classifier = classifier_of(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
    )
    layer = classifier.network[1]
    with torch.no_grad():
        layer.weight[2] = 1e-40  # times a weight it is below the smallest normal number
    assert fold_batchnorm(classifier) == ("3",)
    assert classifier.network[1] is layer


def test_half_precision_is_rounded_too_coarsely():
    assert torch.finfo(torch.float32).eps < ROUNDING < torch.finfo(torch.float16).eps
    classifier = wrapped(Reused("plainly"))
    for dtype in (torch.float16, torch.bfloat16):
        assert fold_batchnorm(deepcopy(classifier).to(dtype)) == ()
    assert fold_batchnorm(classifier) == ("norm",)
