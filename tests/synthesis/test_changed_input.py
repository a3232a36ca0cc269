"""A forward pass that changes its input in place is inverted as one that does not."""

import torch
from torch import nn

from dfshield.classifiers import Architecture, Classifier
from dfshield.synthesis import Inversion


class Net(nn.Sequential):
    def __init__(self, in_place):
        super().__init__(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)
        )
        self.in_place = in_place

    def forward(self, x):
        return super().forward(x.mul_(0.5) if self.in_place else x * 0.5)


def inverted(in_place):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Net(in_place)
    architecture = Architecture("python:net:make", {}, (1, 8, 8), 10)
    teacher = Classifier(net, architecture=architecture, mean=[0.5], std=[0.5]).eval()
    return Inversion(teacher, iterations=5).synthesize(seed=0, batch=0, size=8).images


def test_the_images_are_the_same():
    assert torch.equal(inverted(True), inverted(False))
