"""Features of a VGG-16 that was trained on ImageNet."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dfshield.classifiers import read_weights
from dfshield.classifiers.weights import fit_weights
from dfshield.diversity.features.base import FeatureSpace
from dfshield.errors import InputError

SIDE = 224
"""Height and width of the images that the network takes."""
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels of the 3x3 convolutions; each stage ends with a 2x2 maximum."""
HIDDEN, CLASSES = 4096, 1000
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Vgg16Features(FeatureSpace):
    """The second hidden layer (fc2, after its ReLU) of an ImageNet VGG-16: d = 4096.

    Images are resized to 224x224 (bilinear) and normalised by ImageNet's mean and standard
    deviation; grey ones get three equal channels (Simonyan & Zisserman 2015; the space of
    Kynkaanniemi et al. 2019).

    Args:
        weights: the file of torchvision's ``vgg16``, without batch normalisation: a state_dict or
            safetensors. Nothing but tensors is unpickled.

    Raises:
        InputError: if the file is missing, damaged, holds Python objects or another network.
    """

    name = "vgg16"

    def __init__(self, *, weights: str) -> None:
        if not isinstance(weights, str):
            raise InputError(f"weights: a file was expected (got {weights!r})")
        self.weights = weights
        file = read_weights(weights)
        with torch.device("meta"):  # its weights come from the file alone
            network = Vgg16()
        self._network = network.to_empty(device="cpu").eval().requires_grad_(False)
        fit_weights(self._network, file, source="vgg16", num_classes=CLASSES)

    def compute(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Return fc2 of these images, computed on their device."""
        channels = images.shape[1]
        if channels not in (1, 3):
            raise InputError(f"features: vgg16 takes images of 1 or 3 channels, not {channels}")
        self._network.to(images.device)
        mean, std = (images.new_tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
        coloured = images.expand(-1, 3, -1, -1)
        size = (SIDE, SIDE)
        resized = F.interpolate(coloured, size, mode="bilinear", antialias=True)
        fc2: Tensor = self._network((resized - mean) / std)
        return fc2


class Vgg16(nn.Module):
    """VGG-16 up to its second hidden layer, with the names of torchvision's weights."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for stage in STAGES:
            for out in stage:
                layers += [nn.Conv2d(channels, out, 3, padding=1), nn.ReLU(inplace=True)]
                channels = out
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        side = SIDE >> len(STAGES)
        # Places 2 and 5 are those of dropout, which does nothing here; the last has the classes.
        self.classifier = nn.Sequential(
            nn.Linear(channels * side * side, HIDDEN),
            nn.ReLU(inplace=True),
            nn.Identity(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(inplace=True),
            nn.Identity(),
            nn.Linear(HIDDEN, CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return fc2, (n, 4096), of normalised images (n, 3, 224, 224)."""
        features: Tensor = self.classifier[:5](self.features(x).flatten(1))
        return features
