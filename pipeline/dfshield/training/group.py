"""The workers that train one student together, and what they tell one another."""

from typing import Protocol, TypeVar, runtime_checkable

import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


@runtime_checkable
class WorkerGroup(Protocol):
    """Processes that call the same collective operations in the same order."""

    @property
    def rank(self) -> int:
        """This worker's number, from 0."""
        ...

    @property
    def size(self) -> int:
        """How many workers there are."""
        ...

    def all_reduce(self, tensor: Tensor) -> None:
        """Replace the tensor, in place and on every worker, by its sum over all workers."""
        ...

    def all_gather(self, value: T) -> list[T]:
        """Return every worker's value, by rank. It is pickled; its tensors must lie on the CPU."""
        ...


class SingleWorker:
    """One worker alone: nothing is sent."""

    rank = 0
    size = 1

    def all_reduce(self, tensor: Tensor) -> None:
        """Leave the tensor, its own sum, as it is."""

    def all_gather(self, value: T) -> list[T]:
        """Return the one value there is."""
        return [value]


class TorchWorkerGroup:
    """The workers of torch.distributed's default process group, gloo or nccl.

    Under nccl each worker's GPU must be its current CUDA device.

    Raises:
        ValueError: if torch.distributed has not been initialised.
    """

    def __init__(self) -> None:
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()

    def all_reduce(self, tensor: Tensor) -> None:
        """Add up over the process group; see `WorkerGroup`."""
        dist.all_reduce(tensor)

    def all_gather(self, value: T) -> list[T]:
        """Gather from the process group; see `WorkerGroup`."""
        values = [value] * self.size  # placeholders, overwritten
        dist.all_gather_object(values, value)
        return values
