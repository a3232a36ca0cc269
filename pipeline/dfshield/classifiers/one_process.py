"""SyncBatchNorm as what it is within one process: BatchNorm."""

from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class UnsyncedBatchNorm(_BatchNorm):
    """BatchNorm of features of any number of dimensions, (n, c, ...), in this process alone."""

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002  torch's name
        if input.ndim < 2:
            raise ValueError(f"expected at least 2 dimensions, got {input.ndim}")


def unsynced(network: nn.Module) -> nn.Module:
    """Return the network, whose SyncBatchNorm layers have become `UnsyncedBatchNorm`.

    In train mode those want a GPU and the same batch sizes in every process of a group; here the
    statistics of a mini-batch are its own, and where processes share the work, the training sees
    to it that they move alike. Names, tensors, hooks and modes stay.
    """
    for layer in network.modules():
        if isinstance(layer, nn.SyncBatchNorm):
            changing: Any = layer
            changing.__class__ = UnsyncedBatchNorm
    return network
