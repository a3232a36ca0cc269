"""Small classifiers and images for the tests of the evaluation."""

import pytest
import torch
from torch import nn


class Prototypes(nn.Module):
    """Logits: minus the squared distance to one prototype per class."""

    def __init__(self, prototypes, offset=0.0):
        super().__init__()
        self.prototypes = nn.Parameter(prototypes)
        self.register_buffer("offset", torch.tensor(offset))

    def forward(self, x):
        distance = (x.flatten(1)[:, None] - self.prototypes) ** 2
        return -distance.sum(2) + self.offset


@pytest.fixture(scope="session")
def prototypes():
    """One random 1x4x4 image for each of five classes."""
    return torch.rand(5, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model(prototypes):
    return Prototypes(prototypes.clone())


@pytest.fixture(scope="session")
def images(prototypes):
    """Sixty noisy copies of the prototypes, class sizes 20, 10, 10, 10, 10, shuffled."""
    draw = torch.Generator().manual_seed(1)
    y = torch.cat([torch.zeros(10, dtype=torch.long), torch.arange(50) % 5])
    y = y[torch.randperm(60, generator=draw)]
    noise = 0.35 * torch.randn(60, 16, generator=draw)
    return (prototypes[y] + noise).clamp(0, 1).view(60, 1, 4, 4), y


@pytest.fixture
def constant(prototypes):
    """A classifier that always says 0, and is differentiable."""
    model = Prototypes(0 * prototypes)
    model.offset = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0])
    return model
