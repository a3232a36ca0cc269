"""Factories of small classifiers of 8x8 grey images that answer in unusual ways."""

import torch
from torch import nn

from dfshield.classifiers import LogProbabilities


def plain(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)
        )
        with torch.no_grad():
            net(torch.rand(64, 1, 8, 8))  # running statistics of its own
    return net


class Wrapped(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net


class Autocast(Wrapped):
    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.net(x)


class CastsInside(Wrapped):
    def forward(self, x):
        return self.net(x.to(self.net[0].weight.dtype))


class Softmax(Wrapped):
    scale = 1.0

    def forward(self, x):
        return (self.scale * self.net(x)).softmax(1)


class SharpSoftmax(Softmax):
    scale = 40.0


class Percent(Wrapped):
    def forward(self, x):
        return 100 * self.net(x).softmax(1)


class SoftmaxInEval(Wrapped):
    def forward(self, x):
        return self.net(x) if self.training else self.net(x).softmax(1)


class SoftmaxInTraining(Wrapped):
    def forward(self, x):
        return self.net(x).softmax(1) if self.training else self.net(x)


class LogSoftmax(Wrapped):
    def forward(self, x):
        return self.net(x).log_softmax(1)


class NotNegative(Wrapped):
    def forward(self, x):
        return self.net(x).relu()


PRECISIONS = {
    "float32": plain,
    "half": lambda: plain().half(),
    "bfloat16": lambda: plain().bfloat16(),
    "double": lambda: plain().double(),
    "half that casts": lambda: CastsInside(plain().half()),
    "double that casts": lambda: CastsInside(plain().double()),
    "autocast": lambda: Autocast(plain()),
}
PROBABILITIES = {
    "softmax": lambda: Softmax(plain()),
    "softmax x 40": lambda: SharpSoftmax(plain()),
    "percent": lambda: Percent(plain()),
    "softmax in eval mode": lambda: SoftmaxInEval(plain()),
    "bfloat16 softmax": lambda: Softmax(plain().bfloat16()),
}
LOGITS = {
    "log-softmax": lambda: LogSoftmax(plain()),
    "mended softmax": lambda: LogProbabilities(Softmax(plain())),
    "not negative": lambda: NotNegative(plain()),
}


def make(kind):
    """Return one of the above by name; the source ``python:odd_factories:make``."""
    kinds = {**PRECISIONS, **PROBABILITIES, **LOGITS}
    kinds["softmax in train mode"] = lambda: SoftmaxInTraining(plain())
    return kinds[kind]()
