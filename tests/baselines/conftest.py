"""A small teacher for the tests of the baselines, with and without BatchNorm."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from dfshield.classifiers import Architecture, Classifier

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def make_teacher():
    """Return a function that builds a three-class classifier of 1x8x8 images."""

    def make(*, batchnorm: bool = True) -> Classifier:
        rng = torch.Generator().manual_seed(0)
        norm = nn.BatchNorm2d(4) if batchnorm else nn.Identity()
        network = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2), norm, nn.Tanh(), nn.Flatten(), nn.Linear(36, 3)
        )
        for weight in network.parameters():
            weight.data = 0.5 * torch.randn(weight.shape, generator=rng)
        if batchnorm:
            norm.running_mean = 0.3 * torch.randn(4, generator=rng)
            norm.running_var = torch.rand(4, generator=rng) + 0.2
        architecture = Architecture("python:tests:teacher", {}, (1, 8, 8), 3, ("a", "b", "c"))
        return Classifier(network, architecture=architecture, mean=(0.4,), std=(0.3,)).eval()

    return make


@pytest.fixture
def teacher(make_teacher):
    """One with a BatchNorm layer and uneven statistics."""
    return make_teacher()
