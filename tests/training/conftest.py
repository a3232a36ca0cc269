"""Small students and images for the tests of the training."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def make_student():
    """Return a function that builds a four-class network of 1x6x6 images with two BatchNorms."""

    def make(seed: int = 0) -> nn.Module:
        network = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.Tanh(),
            nn.Conv2d(4, 6, 3, stride=2, bias=False),
            nn.BatchNorm2d(6),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(24, 4),
        )
        rng = torch.Generator().manual_seed(seed)
        for parameter in network.parameters():
            parameter.data = 0.5 * torch.randn(parameter.shape, generator=rng)
        return network

    return make


@pytest.fixture
def images():
    """Fifty random 1x6x6 images in [0, 1], some pixels at the ends of the range."""
    rng = torch.Generator().manual_seed(1)
    return (1.4 * torch.rand(50, 1, 6, 6, generator=rng) - 0.2).clamp(0, 1)
