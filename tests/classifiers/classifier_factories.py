"""Networks that the tests name as ``python:classifier_factories:...``."""

import torch
from torch import nn


class TiedNet(nn.Module):
    """Two names for one weight, which safetensors cannot store as such."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.first = nn.Linear(12, 12)
        self.second = nn.Linear(12, 12)
        self.second.weight = self.first.weight
        self.head = nn.Linear(12, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(self.first(x.flatten(1)).relu()))


def tied(classes: int = 4) -> nn.Module:
    return TiedNet(classes)


def linear(size: int = 12, classes: int = 4) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(size, classes))


def returns_dict() -> dict[str, int]:
    return {}


class TupleNet(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (x, x)


def broken() -> nn.Module:
    raise LookupError("no such thing\nsecond line")


def leaves() -> nn.Module:
    raise SystemExit(3)


def unusual_batchnorm() -> nn.Module:
    """BatchNorm of every kind: without statistics, 1-d, 2-d, and an InstanceNorm."""
    return nn.Sequential(
        nn.BatchNorm2d(3, track_running_stats=False),
        nn.InstanceNorm2d(3, track_running_stats=True),
        nn.BatchNorm2d(3),
        nn.Flatten(),
        nn.Linear(12, 4),
        nn.BatchNorm1d(4),
    )


not_callable = 3
