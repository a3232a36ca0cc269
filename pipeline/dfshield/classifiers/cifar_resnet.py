"""He et al.'s residual networks for CIFAR, with the parameter-free shortcut ("option A")."""

import torch.nn.functional as F
from torch import Tensor, nn

from dfshield.errors import InputError

DEPTHS = (8, 20, 32, 44, 56, 110)
SMALLEST_SIZE = 8


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm, added to a shortcut without parameters.

    ``y = relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x))``; where the block shrinks the image,
    the shortcut takes every second pixel and pads the missing channels with zeros on both sides.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.new_channels = channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        """Return the features after this block: (n, c, h, w) to (n, c2, h2, w2)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))

    def shortcut(self, x: Tensor) -> Tensor:
        """Return the input, subsampled and padded with zero channels to the output's shape."""
        if self.stride == 1 and self.new_channels == 0:
            return x
        before = self.new_channels // 2
        subsampled = x[:, :, :: self.stride, :: self.stride]
        return F.pad(subsampled, (0, 0, 0, 0, before, self.new_channels - before))


class CifarResNet(nn.Module):
    """ResNet of depth 6m + 2: three stages of m blocks with w, 2w and 4w channels.

    He et al., "Deep Residual Learning for Image Recognition", 2016, section 4.2 (w = 16). Takes
    normalised images (n, c, h, w) of any size from 8x8, ends in a global average and one linear
    layer. The names of the weights are those of the published PyTorch checkpoints.

    Args:
        depth: 8, 20, 32, 44, 56 or 110.
        in_channels: channels c of the images.
        num_classes: number of logits k.
        width: channels w of the first stage.

    Raises:
        InputError: for another depth or a width below 1.
    """

    def __init__(
        self, depth: int, *, in_channels: int = 3, num_classes: int = 10, width: int = 16
    ) -> None:
        super().__init__()
        if depth not in DEPTHS:
            raise InputError(f"depth: {depth} must be one of {', '.join(map(str, DEPTHS))}")
        if width < 1:
            raise InputError(f"width: {width} must be at least 1")
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, blocks, stride=1)
        self.layer2 = _stage(width, 2 * width, blocks, stride=2)
        self.layer3 = _stage(2 * width, 4 * width, blocks, stride=2)
        self.linear = nn.Linear(4 * width, num_classes)
        he_initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (n, k) of normalised images (n, c, h, w)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        logits: Tensor = self.linear(out.mean(dim=(2, 3)))
        return logits


def _stage(in_channels: int, channels: int, blocks: int, *, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, channels, stride)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1) for _ in range(blocks - 1)))


def he_initialise(network: nn.Module) -> None:
    """Draw weights from N(0, 2 / fan_in), set biases to 0 (He et al. 2015, eq. 10).

    BatchNorm keeps PyTorch's scale 1 and shift 0.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
