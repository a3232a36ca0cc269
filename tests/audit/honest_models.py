"""Classifiers that mask nothing, of several architectures and ways of training."""

import torch
from models_of_digits import EPS, convolutional, dense, train
from torch import nn


def group_norm():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.GroupNorm(4, 16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.GroupNorm(4, 32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 10),
    )


class Transformer(nn.Module):
    """A small vision transformer over the 16 patches of 2 x 2 pixels."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(1, 32, 2, stride=2)
        self.places = nn.Parameter(0.1 * torch.randn(1, 16, 32))
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.places
        return self.head(self.encoder(tokens).mean(1))


HONEST = {
    "convolutional": lambda seed: train(convolutional, epochs=6, seed=seed),
    "confident": lambda seed: train(convolutional, epochs=40, seed=seed),
    "dense": lambda seed: train(dense, epochs=30, seed=seed),
    "hardened": lambda seed: train(convolutional, epochs=12, seed=seed, eps=EPS),
    "hardened-dense": lambda seed: train(dense, epochs=20, seed=seed, eps=EPS),
    "untrained": lambda seed: train(convolutional, epochs=0, seed=seed),
    "untrained-dense": lambda seed: train(dense, epochs=0, seed=seed),
    "untrained-transformer": lambda seed: train(Transformer, epochs=0, seed=seed),
    "group-norm": lambda seed: train(group_norm, epochs=8, seed=seed),
    "transformer": lambda seed: train(Transformer, epochs=12, seed=seed),
}
"""How each is made, from a seed."""
