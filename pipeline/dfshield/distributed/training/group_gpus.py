"""Which GPUs can train one student together."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class GroupGpu:
    """The GPU of one worker of a group.

    Attributes:
        name: of its model, as its driver calls it.
        uuid: which of that model; slices of one have their own.
    """

    name: str
    uuid: str

    @classmethod
    def of(cls, device: torch.device) -> "GroupGpu":
        """Return what tells a device apart from those of the other workers."""
        properties = torch.cuda.get_device_properties(device)
        return cls(properties.name, str(properties.uuid))

    @property
    def is_slice(self) -> bool:
        """Whether it is a slice of a GPU (MIG)."""
        return "MIG" in self.name.split()


def why_not_together(gpus: Sequence[GroupGpu]) -> str:
    """Return why workers with these GPUs cannot be one group, and what to do; "" if they can."""
    if len(gpus) > 1 and any(gpu.is_slice for gpu in gpus):
        return (
            "slices of GPUs (MIG) cannot send one another anything, so they cannot train one "
            "student together: set cluster.num_workers=1, or take whole GPUs"
        )
    if len({gpu.uuid for gpu in gpus}) < len(gpus):
        return (
            "several workers of the training have the same GPU: let Ray count every GPU once "
            "(--num-gpus), or set cluster.num_workers=1"
        )
    models = sorted({gpu.name for gpu in gpus})
    if len(models) > 1:
        return (
            f"the GPUs of the training differ ({', '.join(models)}), so the student would depend "
            "on who computes what: set cluster.num_workers to the number of those of one model, "
            "in a cluster of these alone"
        )
    return ""
