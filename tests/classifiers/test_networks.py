"""The project's own networks: published sizes, published outputs, any shape."""

import numpy as np
import pytest
import torch
from torch import nn

from dfshield.classifiers import CifarResNet, MedmnistResNet, build
from dfshield.classifiers.cifar_resnet import BasicBlock
from dfshield.errors import InputError

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# He et al. 2016, table 6: 0.27 M, 0.46 M, 0.66 M, 0.85 M, 1.7 M.
@pytest.mark.parametrize(
    ("depth", "parameters"),
    [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018), (110, 1_727_962)],
)
def test_cifar_resnet_has_the_published_number_of_parameters(depth: int, parameters: int) -> None:
    with torch.device("meta"):
        assert count(CifarResNet(depth)) == parameters


# 11.2 M and 23.5 M: ImageNet's ResNets less the difference in stem and head.
@pytest.mark.parametrize(("depth", "parameters"), [(18, 11_173_962), (50, 23_520_842)])
def test_medmnist_resnet_has_the_published_number_of_parameters(
    depth: int, parameters: int
) -> None:
    with torch.device("meta"):
        assert count(MedmnistResNet(depth, num_classes=10)) == parameters


def test_medmnist_keys_are_those_of_the_benchmark() -> None:
    with torch.device("meta"):
        basic, bottleneck = (
            MedmnistResNet(depth, num_classes=9).state_dict() for depth in (18, 50)
        )
    for keys in (basic, bottleneck):
        assert {"conv1.weight", "bn1.running_var", "linear.bias"} <= keys.keys()
        assert keys["layer2.0.shortcut.0.weight"].shape[-1] == 1
        assert "layer2.0.shortcut.1.running_mean" in keys
        assert "layer2.1.shortcut.0.weight" not in keys
    assert "layer1.0.shortcut.0.weight" not in basic
    assert bottleneck["layer1.0.shortcut.0.weight"].shape == (256, 64, 1, 1)
    assert bottleneck["layer3.5.conv3.weight"].shape == (1024, 256, 1, 1)
    # The stride of a bottleneck is in its 3x3 convolution.
    layer = MedmnistResNet(50, num_classes=9).layer2[0]
    assert (layer.conv1.stride, layer.conv2.stride) == ((1, 1), (2, 2))


def test_shortcut_subsamples_and_pads_on_both_sides() -> None:
    x = torch.arange(2 * 4 * 5 * 5, dtype=torch.float32).view(2, 4, 5, 5)
    shortcut = BasicBlock(4, 8, 2).shortcut(x)
    assert shortcut.shape == (2, 8, 3, 3)
    assert torch.equal(shortcut[:, 2:6], x[:, :, ::2, ::2])
    assert not shortcut[:, :2].any()
    assert not shortcut[:, 6:].any()


def test_any_size_channels_and_width_give_logits_and_gradients() -> None:
    rng = np.random.default_rng(0)
    for _ in range(12):
        c, k, width = (int(v) for v in rng.integers((1, 2, 1), (6, 13, 8)))
        h, w = (int(v) for v in rng.integers(8, 40, size=2))
        classifier = build(
            "dfshield:resnet8", input_shape=(c, h, w), num_classes=k, options={"width": width}
        )
        x = torch.rand(3, c, h, w, requires_grad=True)
        classifier.train()
        logits = classifier(x)
        assert logits.shape == (3, k)
        (gradient,) = torch.autograd.grad(logits.square().sum(), x)
        assert gradient.isfinite().all()
        assert gradient.flatten(1).any(1).all()


@pytest.mark.parametrize("family", ["dfshield:resnet20", "medmnist:resnet18"])
def test_fresh_weights_follow_he(family: str) -> None:
    network = build(family, num_classes=10).network
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 2_000:
            fan_in = layer.weight[0].numel()
            assert layer.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.05)
    assert not network.linear.bias.any()


@pytest.mark.parametrize("size", [(3, 7, 32), (3, 32, 7)])
def test_smaller_than_8_is_refused(size: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match="at least 8"):
        build("dfshield:resnet8", input_shape=size, num_classes=10)


def test_published_checkpoint_loads_as_it_lies_and_classifies(real_file) -> None:
    classifier = build(
        "dfshield:resnet20", num_classes=10, weights=real_file("cifar10_resnet20.th"), **IMAGENET
    )
    with np.load(real_file("cifar10_test.npz")) as data:
        images = torch.from_numpy(data["images"][:1000]).permute(0, 3, 1, 2).float() / 255
        labels = torch.from_numpy(data["labels"][:1000].astype(np.int64))
    with torch.no_grad():
        predictions = torch.cat([classifier(x).argmax(1) for x in images.split(250)])
    assert (predictions == labels).float().mean().item() >= 0.91
