"""The ResNet-18 and ResNet-50 of the MedMNIST benchmark: made for images of 28x28."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from dfshield.classifiers.cifar_resnet import he_initialise
from dfshield.errors import InputError


def _conv(in_channels: int, channels: int, size: int, *, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, channels, size, stride=stride, padding=size // 2, bias=False)


def _projection(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    """Return the shortcut: identity, or a 1x1 convolution with BatchNorm where shapes change."""
    if stride == 1 and in_channels == channels:
        return nn.Sequential()
    return nn.Sequential(_conv(in_channels, channels, 1, stride=stride), nn.BatchNorm2d(channels))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm, added to a projected shortcut."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, channels, 3, stride=stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv(channels, channels, 3)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = _projection(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features after this block: (n, c, h, w) to (n, c2, h2, w2)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class Bottleneck(nn.Module):
    """1x1, 3x3 (strided) and 1x1 convolutions with BatchNorm, added to a projected shortcut."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, channels, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv(channels, channels, 3, stride=stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = _conv(channels, self.expansion * channels, 1)
        self.bn3 = nn.BatchNorm2d(self.expansion * channels)
        self.shortcut = _projection(in_channels, self.expansion * channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features after this block: (n, c, h, w) to (n, c2, h2, w2)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return F.relu(out + self.shortcut(x))


_PLANS: dict[int, tuple[Callable[[int, int, int], nn.Module], int, tuple[int, int, int, int]]] = {
    18: (BasicBlock, BasicBlock.expansion, (2, 2, 2, 2)),
    50: (Bottleneck, Bottleneck.expansion, (3, 4, 6, 3)),
}
DEPTHS = tuple(_PLANS)


class MedmnistResNet(nn.Module):
    """ResNet with a 3x3 stem of stride 1, no max-pool, and stages of 64, 128, 256, 512 channels.

    Yang et al., "MedMNIST v2", 2023. Takes normalised images (n, c, h, w). The names of the
    weights are those of the checkpoints that the benchmark publishes.

    Args:
        depth: 18 (basic blocks) or 50 (bottlenecks).
        in_channels: channels c of the images.
        num_classes: number of logits k.

    Raises:
        InputError: for another depth.
    """

    def __init__(self, depth: int, *, in_channels: int = 3, num_classes: int) -> None:
        super().__init__()
        if depth not in _PLANS:
            raise InputError(f"depth: {depth} must be one of {', '.join(map(str, DEPTHS))}")
        block, expansion, (n1, n2, n3, n4) = _PLANS[depth]

        def stage(inputs: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
            rest = (block(expansion * channels, channels, 1) for _ in range(blocks - 1))
            return nn.Sequential(block(inputs, channels, stride), *rest)

        self.conv1 = _conv(in_channels, 64, 3)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = stage(64, 64, n1, 1)
        self.layer2 = stage(64 * expansion, 128, n2, 2)
        self.layer3 = stage(128 * expansion, 256, n3, 2)
        self.layer4 = stage(256 * expansion, 512, n4, 2)
        self.linear = nn.Linear(512 * expansion, num_classes)
        he_initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (n, k) of normalised images (n, c, h, w)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer4(self.layer3(self.layer2(self.layer1(out))))
        logits: Tensor = self.linear(out.mean(dim=(2, 3)))
        return logits
