"""Small classifiers and real images for the tests of the attacks."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))


def digit_images():
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    x = torch.from_numpy(digits.images[order]).float().unsqueeze(1) / 16
    return x, torch.from_numpy(digits.target[order]).long()


@pytest.fixture(scope="session")
def digits():
    """The last 100 of the shuffled real digits: images in [0, 1] and labels."""
    x, y = digit_images()
    return x[-100:], y[-100:]


@pytest.fixture(scope="package")
def trained_net():
    """A small CNN with BatchNorm, trained for a second or two on other digits."""
    x, y = digit_images()
    x, y = x[:1500], y[:1500]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(256, 10),
        )
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        for _ in range(3):
            for batch in torch.randperm(len(x)).split(50):
                optimizer.zero_grad()
                F.cross_entropy(net(x[batch]), y[batch]).backward()
                optimizer.step()
    net.zero_grad()
    return net.eval()


@pytest.fixture(scope="package")
def hardened_net():
    """A small CNN trained adversarially on other digits (PGD-5, l_inf 0.1), in some seconds."""
    x, y = digit_images()
    x, y = x[:1500], y[:1500]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(512, 10),
        )
        optimizer = torch.optim.Adam(net.parameters(), lr=0.005)
        for _ in range(6):
            for batch in torch.randperm(len(x)).split(50):
                delta = torch.zeros_like(x[batch])
                for _ in range(5):
                    delta.requires_grad_()
                    loss = F.cross_entropy(net(x[batch] + delta), y[batch])
                    (gradient,) = torch.autograd.grad(loss, [delta])
                    delta = (delta.detach() + 0.04 * gradient.sign()).clamp(-0.1, 0.1)
                    delta = (x[batch] + delta).clamp(0, 1) - x[batch]
                optimizer.zero_grad()
                F.cross_entropy(net(x[batch] + delta), y[batch]).backward()
                optimizer.step()
    net.zero_grad()
    return net.eval()
