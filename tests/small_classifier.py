"""A classifier of seven layers with random weights, and images for it."""

import torch
from torch import nn

from dfshield.classifiers import Architecture, Classifier

SHAPE, CLASSES, SIZE = (1, 6, 6), 4, 6


def classifier(seed: int = 0, *, activation: nn.Module | None = None) -> Classifier:
    """Return it in eval mode; ``activation`` stands where the first ReLU is."""
    rng = torch.Generator().manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        activation or nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24, CLASSES),
    )
    for parameter in network.parameters():
        parameter.data = 0.5 * torch.randn(parameter.shape, generator=rng)
    architecture = Architecture("python:tests:net", {}, SHAPE, CLASSES, tuple("abcd"))
    return Classifier(network, architecture=architecture, mean=(0.5,), std=(0.5,)).eval()


def images(number: int = SIZE) -> torch.Tensor:
    """Return so many, uniform in [0, 1]."""
    return torch.rand(number, *SHAPE, generator=torch.Generator().manual_seed(1))
