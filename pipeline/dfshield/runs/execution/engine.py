"""How numbers are computed, as it is kept with what was made."""

import ctypes
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from dfshield.engine.acceleration import Acceleration
from dfshield.engine.numerics import (
    Accelerator,
    accelerator_of,
    make_deterministic,
    set_float32_products,
)
from dfshield.errors import OtherDeviceError

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


@dataclass(frozen=True)
class Engine:
    """How numbers are computed. Results are equal to the byte for an equal engine and hardware.

    Attributes:
        device: ``cpu`` or ``cuda``.
        threads: intra-op threads of each worker, which CPU results depend on.
        torch: version of torch.
        precision: of the forward and backward passes: IEEE ``float32``, ``tf32`` (float32 whose
            products a GPU rounds) or ``bfloat16``.
        compiled: whether the network is compiled.
        batches_per_pass: how many batches share a forward pass.
        accelerator: the GPU; None for work on CPUs.
        graphed: whether plain passes are replayed from CUDA graphs.
    """

    device: str
    threads: int
    torch: str
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    compiled: bool = False
    batches_per_pass: int = 1
    accelerator: Accelerator | None = None
    graphed: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the engine as it stands in a manifest, without what it does not have."""
        left_out = {"accelerator": self.accelerator is None, "graphed": not self.graphed}
        return {key: value for key, value in asdict(self).items() if not left_out.get(key)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Engine":
        """Return the engine that `to_json` described."""
        of_gpu = value.get("accelerator")
        return cls(**{**value, "accelerator": Accelerator(**of_gpu) if of_gpu else None})

    @property
    def acceleration(self) -> Acceleration:
        """What of it the algorithms are told; `bind` sees to the rest."""
        if self.precision == "bfloat16":
            return Acceleration("bfloat16", self.compiled)
        return Acceleration("float32", self.compiled, self.graphed)

    def bind(self) -> None:
        """Let this process compute as the engine says."""
        _keep_freed_memory()
        torch.set_num_threads(self.threads)
        set_float32_products(tf32=self.precision == "tf32")
        if self.device == "cuda":
            make_deterministic()
        if self.compiled:
            # What is compiled after the first pass of a model must not be left out silently either.
            from torch._dynamo import config  # seconds, which others do without

            config.fail_on_recompile_limit_hit = True

    def require_accelerator(self) -> None:
        """Check that this process's GPU is the one that the work is bound to.

        Raises:
            OtherDeviceError: if it is another model, or has another cuDNN.
        """
        if self.accelerator is None:
            return
        here = accelerator_of(torch.device(self.device))
        if here is not None and here != self.accelerator:
            raise OtherDeviceError(
                f"the GPU here is {here.format()}, but the work was begun on "
                f"{self.accelerator.format()}, whose numbers differ: use GPUs of that model"
            )


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
