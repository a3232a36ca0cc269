"""Factories of small classifiers of 8x8 grey images that answer in unusual ways."""

from collections import UserDict, namedtuple
from types import SimpleNamespace

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


class Returning(Wrapped):
    """Returns what a function makes of the logits, in train mode alone if it is told so."""

    def __init__(self, make, *, in_eval=True):
        super().__init__(plain())
        self.make, self.in_eval = make, in_eval

    def forward(self, x):
        logits = self.net(x)
        return self.make(logits) if self.in_eval or self.training else logits


class ChangesItsInput(Wrapped):
    def forward(self, x):
        return self.net(x.sub_(0.5).mul_(2))


class NamesOfItsOwn(Wrapped):
    """Has attributes that dfshield uses for something else."""

    input_shape, num_classes, network, fingerprint = "8x8", "ten", "mine", "none"

    def __init__(self, net):
        super().__init__(net)
        self.register_buffer("mean", torch.tensor([0.1, 0.2]))
        self.std = lambda: 3
        self.logits = "of no use"

    def forward(self, x):
        return self.net(x)


With = namedtuple("With", ["logits", "auxiliary"])


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
STRUCTURES = {
    "tuple": lambda: Returning(lambda z: (z, 0 * z)),
    "tuple in train mode": lambda: Returning(lambda z: (z, 0 * z), in_eval=False),
    "list": lambda: Returning(lambda z: [z, None]),
    "named tuple": lambda: Returning(lambda z: With(z, 0 * z)),
    "dict": lambda: Returning(lambda z: {"loss": None, "logits": z}),
    "dict in train mode": lambda: Returning(lambda z: {"logits": z, "aux": z}, in_eval=False),
    "mapping": lambda: Returning(lambda z: UserDict(logits=z)),
    "object": lambda: Returning(lambda z: SimpleNamespace(logits=z)),
    "sides of length 1": lambda: Returning(lambda z: z[:, :, None, None]),
    "squeezed": lambda: Returning(lambda z: z.squeeze()),
    "changes its input": lambda: ChangesItsInput(plain()),
    "names of its own": lambda: NamesOfItsOwn(plain()),
    "synchronised": lambda: nn.SyncBatchNorm.convert_sync_batchnorm(plain()),
}
NO_LOGITS = {
    "text": lambda: Returning(str),
    "nothing": lambda: Returning(lambda z: None),
    "dict without logits": lambda: Returning(lambda z: {"scores": z}),
    "empty tuple": lambda: Returning(lambda z: ()),
    "one number": lambda: Returning(lambda z: z[:, :1]),
    "one number, flat": lambda: Returning(lambda z: z[:, 0]),
    "a mean": lambda: Returning(lambda z: z.mean()),
    "maps": lambda: Returning(lambda z: z[:, :, None, None].expand(-1, -1, 2, 2)),
    "flat": lambda: Returning(lambda z: z.flatten()),
    "nothing in train mode": lambda: Returning(lambda z: None, in_eval=False),
}


def make(kind):
    """Return one of the above by name; the source ``python:odd_factories:make``."""
    kinds = {**PRECISIONS, **PROBABILITIES, **LOGITS, **STRUCTURES, **NO_LOGITS}
    kinds["softmax in train mode"] = lambda: SoftmaxInTraining(plain())
    return kinds[kind]()
