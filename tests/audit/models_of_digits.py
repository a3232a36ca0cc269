"""Honest classifiers of digits, trained in seconds, and classifiers that mask their gradient."""

import torch
import torch.nn.functional as F
from torch import nn

from dfshield.attacks import PGD
from dfshield.datasets import load_images

EPS = 0.1


def convolutional():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 10),
    )


def dense():
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 128),
        nn.ReLU(),
        nn.Linear(128, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def train(make, *, epochs, seed, eps=0.0):
    """Train on the digits, on adversarial images where ``eps`` is above 0."""
    x, y = load_images("digits", split="train").tensors()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = make()
        optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
        for epoch in range(epochs):
            for number, batch in enumerate(torch.randperm(len(x)).split(100)):
                images = x[batch]
                if eps:
                    attack = PGD(eps=eps, num_steps=5)
                    images = attack(net, images, y[batch], seed=1000 * epoch + number)
                optimizer.zero_grad()
                F.cross_entropy(net(images), y[batch]).backward()
                optimizer.step()
    net.zero_grad()
    return net.eval().requires_grad_(False)


class Masked(nn.Module):
    """A classifier behind something that spoils its gradient."""

    def __init__(self, net):
        super().__init__()
        self.net = net


class Quantised(Masked):
    """Images rounded to a few grey levels: the gradient is zero nearly everywhere."""

    def forward(self, x):
        return self.net((x * 15).round() / 15)


class Saturated(Masked):
    """Logits so large that the softmax rounds to 0 and 1."""

    def forward(self, x):
        return 1e4 * self.net(x)


class Overconfident(Masked):
    """Logits that saturate the softmax of most images, and the cross-entropy alone."""

    def forward(self, x):
        return 40 * self.net(x)


class Probabilities(Masked):
    """What a softmax of low temperature gives, in place of logits."""

    def forward(self, x):
        return (40 * self.net(x)).softmax(1)


class Stochastic(Masked):
    """Noise is added to every image, also in eval mode."""

    def forward(self, x):
        return self.net(x + 0.2 * torch.randn_like(x))


class Shattered(Masked):
    """A ripple much finer than the ball, whose slope has nothing to do with that of the network."""

    def forward(self, x):
        return self.net(x + 0.03 * torch.sin(2000 * x))


class BatchStatistics(Masked):
    """BatchNorm that stays in train mode whatever it is told."""

    def forward(self, x):
        return self.net(x)

    def train(self, mode=True):
        super().train(mode)
        for module in self.net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.training = True
        return self


class Constant(Masked):
    """Always the first class, by logits that follow the image a little."""

    def forward(self, x):
        first = F.one_hot(torch.zeros(len(x), dtype=torch.long), 10)
        return 0.0 * self.net(x) + 5.0 * first


MASKED = {
    "quantised": Quantised,
    "saturated": Saturated,
    "overconfident": Overconfident,
    "probabilities": Probabilities,
    "stochastic": Stochastic,
    "shattered": Shattered,
    "batch-statistics": BatchStatistics,
    "constant": Constant,
}
