"""How numbers are computed, as it is kept with what was made."""

import ctypes
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from dfshield.engine.acceleration import Acceleration, Precision

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


@dataclass(frozen=True)
class Engine:
    """How numbers are computed. Results are equal to the byte for an equal engine and hardware.

    Attributes:
        device: ``cpu`` or ``cuda``.
        threads: intra-op threads of each worker, which CPU results depend on.
        torch: version of torch.
        precision: of the forward and backward passes.
        compiled: whether the network is compiled.
        batches_per_pass: how many batches share a forward pass.
    """

    device: str
    threads: int
    torch: str
    precision: Precision = "float32"
    compiled: bool = False
    batches_per_pass: int = 1

    def to_json(self) -> dict[str, Any]:
        """Return the engine as it stands in a manifest."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Engine":
        """Return the engine that `to_json` described."""
        return cls(**value)

    @property
    def acceleration(self) -> Acceleration:
        """What of it the algorithms are told."""
        return Acceleration(self.precision, self.compiled)

    def bind(self) -> None:
        """Let this process compute as the engine says."""
        _keep_freed_memory()
        torch.set_num_threads(self.threads)
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False


def _keep_freed_memory() -> None:
    """Let glibc keep the memory of freed tensors, which every iteration asks for again.

    By default it may hand tensors of some MB back to the kernel each time and fault them in anew,
    page by page; whether it does depends on what the process allocated before. Elsewhere than
    under glibc, nothing happens.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt") and hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
