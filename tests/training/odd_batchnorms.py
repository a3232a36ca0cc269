"""Networks whose BatchNorm layers do not all move their buffers in a train-mode pass."""

import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    """Two BatchNorms, of which `freeze` names those that `train` keeps in eval mode."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 6, 3, stride=2, bias=False)
        self.norm2 = nn.BatchNorm2d(6)
        self.head = nn.Linear(24, 4)
        self.freeze = ()

    def train(self, mode=True):
        super().train(mode)
        for name in self.freeze:
            getattr(self, name).eval()
        return self

    def first(self, x):
        return self.norm1(x)

    def forward(self, x):
        x = self.first(self.conv1(x)).tanh()
        return self.head(self.norm2(self.conv2(x)).tanh().flatten(1))


class EvalInForward(Net):
    def forward(self, x):
        self.norm1.eval()
        return super().forward(x)


class Functional(Net):
    """Normalises by a layer's buffers without calling it."""

    def first(self, x):
        n = self.norm1
        return F.batch_norm(x, n.running_mean, n.running_var, n.weight, n.bias, False, 0.1, n.eps)


class Folding(Net):
    """Reads a layer's buffers in a formula of its own, and calls the layer in eval mode too."""

    def first(self, x):
        n = self.norm1
        gain = n.weight / (n.running_var + n.eps).sqrt()
        shift = n.bias - n.running_mean * gain
        return 0.5 * (x * gain.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)) + 0.5 * n(x)


class Twice(Net):
    def first(self, x):
        return self.norm1(2 * self.norm1(x) + x)


class Shared(Net):
    """One layer under two names, and another that shares its buffers alone."""

    def __init__(self):
        super().__init__()
        self.again, self.tied = self.norm1, nn.BatchNorm2d(4)
        self.tied.running_mean, self.tied.running_var = (
            self.norm1.running_mean,
            self.norm1.running_var,
        )

    def first(self, x):
        return self.norm1(x) + self.again(2 * x) + self.tied(x + 1)


class KeptInEval(nn.BatchNorm2d):
    """Of a class that has no forward pass of its own: its mode alone is its own."""

    def train(self, mode=True):
        return super().train(False)


class Frozen(nn.BatchNorm2d):
    """In train mode, and normalises by its running statistics all the same."""

    def forward(self, x):
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.1, self.eps
        )


class Rewriting(nn.BatchNorm2d):
    """Moves its buffers by its momentum as PyTorch does, but in Python, by new tensors."""

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
        with torch.no_grad():
            self.num_batches_tracked += 1
            m = self.momentum
            unbiased = variance * (x.numel() / 4) / (x.numel() / 4 - 1)
            self.running_mean = (1 - m) * self.running_mean + m * mean
            self.running_var = (1 - m) * self.running_var + m * unbiased
        shape = (1, -1, 1, 1)
        scale = self.weight / (variance + self.eps).sqrt()
        return (x - mean.view(shape)) * scale.view(shape) + self.bias.view(shape)


class Volume(Net):
    """BatchNorm3d and BatchNorm1d."""

    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm3d(4), nn.BatchNorm1d(24)

    def first(self, x):
        return self.norm1(x[:, :, None])[:, :, 0]

    def forward(self, x):
        x = self.conv2(self.first(self.conv1(x)).tanh()).flatten(1)
        return self.head(self.norm2(x).tanh())


def _with(net, *, freeze=(), norm1=None, **flags):
    net.freeze = freeze
    if norm1 is not None:
        net.norm1 = norm1(4)
    for name, value in flags.items():
        setattr(net.norm1, name, value)
    return net


def _no_weight_gradient():
    net = _with(Net(), freeze=("norm1",))
    net.norm1.requires_grad_(False)
    return net


def _without_bias():
    net = _with(Net(), freeze=("norm1",))
    net.norm1.register_parameter("bias", None)
    return net


# Made by name; and whether the buffers of its first layer stand still in training.
ODD = {
    "frozen": (lambda: _with(Net(), freeze=("norm1",)), True),
    "all frozen": (lambda: _with(Net(), freeze=("norm1", "norm2")), True),
    "frozen, its weight too": (_no_weight_gradient, True),
    "frozen, without a bias": (_without_bias, True),
    "frozen, 3-d and 1-d": (lambda: _with(Volume(), freeze=("norm1", "norm2")), True),
    "frozen, used twice": (lambda: _with(Twice(), freeze=("norm1",)), True),
    "frozen, shared": (lambda: _with(Shared(), freeze=("norm1", "tied")), True),
    "frozen, untracked": (
        lambda: _with(Net(), freeze=("norm1",), track_running_stats=False),
        True,
    ),
    "frozen, uncounted": (lambda: _with(Net(), freeze=("norm1",), num_batches_tracked=None), True),
    "frozen in the forward pass": (EvalInForward, True),
    "frozen by its class": (lambda: _with(Net(), norm1=KeptInEval), True),
    "frozen by its forward pass": (lambda: _with(Net(), norm1=Frozen), True),
    "functional": (Functional, True),
    "folding": (lambda: _with(Folding(), freeze=("norm1",)), True),
    "untracked": (lambda: _with(Net(), track_running_stats=False), True),
    "momentum 0": (lambda: _with(Net(), momentum=0.0), True),
    "uncounted, cumulative": (lambda: _with(Net(), num_batches_tracked=None, momentum=None), True),
    "uncounted": (lambda: _with(Net(), num_batches_tracked=None), False),
    "cumulative": (lambda: _with(Net(), momentum=None), False),
    "used twice": (Twice, False),
    "shared": (Shared, False),
    "3-d and 1-d": (Volume, False),
    "rewriting": (lambda: _with(Net(), norm1=Rewriting), False),
}


class DirectlyMoved(Net):
    """Moves a layer's buffers without calling it."""

    def first(self, x):
        n = self.norm1
        return F.batch_norm(x, n.running_mean, n.running_var, n.weight, n.bias, self.training)


class ReadAfterwards(Net):
    """Normalises by what a pass has just moved."""

    def first(self, x):
        return self.norm1(x) - self.norm1.running_mean.view(1, -1, 1, 1)


class OwnRule(nn.BatchNorm2d):
    """Moves its buffers by another momentum than its own."""

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, True, 0.3
        )


class AlwaysTraining(nn.BatchNorm2d):
    """Moves its buffers in eval mode too."""

    def forward(self, x):
        return F.batch_norm(x, self.running_mean, self.running_var, training=True)


def _bound_elsewhere():
    net = Net()
    ordinary = net.train

    def train(mode=True):
        ordinary(mode)
        net.norm1.eval()
        return net

    net.train = train
    return net


# Made by name; and what they are refused with.
REFUSED = {
    "directly moved": (DirectlyMoved, "norm1.running_mean is moved in train mode by something"),
    "read afterwards": (ReadAfterwards, "other values of the logits"),
    "by a rule of its own": (lambda: _with(Net(), norm1=OwnRule), "values of norm1.running_mean"),
    "in eval mode too": (
        lambda: _with(Net(), norm1=AlwaysTraining, freeze=("norm1",)),
        "norm1.running_mean is moved",
    ),
    "bound elsewhere": (_bound_elsewhere, "train\\(\\) of a copy"),
}


def make(kind, table=ODD):
    """Return a network, in train mode, whose running statistics are far from a batch's."""
    net = table[kind][0]()
    rng = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        parameter.data = 0.5 * torch.randn(parameter.shape, generator=rng)
    for norm in (net.norm1, net.norm2):
        norm.running_mean.normal_(0, 0.3, generator=rng)
        norm.running_var.uniform_(0.2, 0.5, generator=rng)
    return net.train()


def first_buffers(net):
    """Return copies of the running statistics of the first layer."""
    return [net.norm1.running_mean.clone(), net.norm1.running_var.clone()]
