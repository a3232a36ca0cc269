"""Teachers for the tests of the synthesis: a small hand-made one and one trained on real digits."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from dfshield.classifiers import Architecture, Classifier, build
from dfshield.datasets import load_images
from dfshield.training import train_supervised

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def make_teacher():
    """Return a function that builds a three-class classifier of 2x6x5 images from its layers."""

    def make(*layers: nn.Module) -> Classifier:
        return Classifier(
            nn.Sequential(*layers),
            architecture=Architecture("python:tests:teacher", {}, (2, 6, 5), 3, ("a", "b", "c")),
            mean=(0.4, 0.6),
            std=(0.2, 0.3),
        ).eval()

    return make


@pytest.fixture
def tiny_teacher(make_teacher):
    """A small network with convolutional and flat BatchNorm layers and uneven statistics."""
    rng = torch.Generator().manual_seed(0)
    layers = [
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 3, 3, stride=2),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(12, 6),
        nn.BatchNorm1d(6),
        nn.Tanh(),
        nn.Linear(6, 3),
    ]
    for layer in layers:
        for parameter in layer.parameters():
            parameter.data = 0.4 * torch.randn(parameter.shape, generator=rng)
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.running_mean = torch.randn(layer.num_features, generator=rng)
            layer.running_var = torch.rand(layer.num_features, generator=rng) + 0.2
    return make_teacher(*layers)


@pytest.fixture(scope="module")
def teacher():
    """A ResNet-8 of 3x12x10 images with uneven statistics, its weights frozen."""
    made = build(
        "dfshield:resnet8",
        input_shape=(3, 12, 10),
        num_classes=4,
        mean=[0.5] * 3,
        std=[0.25] * 3,
        options={"width": 4},
    )
    generator = torch.Generator().manual_seed(3)
    for layer in made.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.3, generator=generator)
            layer.running_var.uniform_(0.3, 2.0, generator=generator)
    return made.requires_grad_(False)


@pytest.fixture(scope="session")
def digits_teacher():
    """A ResNet-8 trained on the real digits for a few seconds."""
    teacher = build("dfshield:resnet8", input_shape=(1, 8, 8), num_classes=10, options={"width": 8})
    kept = train_supervised(
        teacher,
        load_images("digits", split="train"),
        load_images("digits", split="val"),
        epochs=6,
        batch_size=32,
        learning_rate=0.01,
    )
    assert kept.accuracy > 0.9
    return teacher
