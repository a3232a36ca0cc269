"""What a process's products and kernels are set to, and which GPU computes them."""

import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

_NONDETERMINISTIC = re.compile(r"(\S+) does not have a deterministic implementation")


@dataclass(frozen=True)
class Accelerator:
    """A GPU, as far as numbers depend on it.

    Attributes:
        name: of the model.
        capability: compute capability, such as ``9.0``.
        cudnn: version of cuDNN, as torch gives it; 0 without.
    """

    name: str
    capability: str
    cudnn: int

    @property
    def has_tensor_cores(self) -> bool:
        """Whether it multiplies bfloat16 and TF32 in hardware: from Ampere on."""
        return float(self.capability) >= 8.0

    def format(self) -> str:
        """Return it as text."""
        return f"{self.name} (capability {self.capability}, cuDNN {self.cudnn})"


def accelerator_of(device: torch.device) -> Accelerator | None:
    """Return the GPU that a device is; None for a CPU."""
    if device.type != "cuda":
        return None
    found = torch.cuda.get_device_properties(device)
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return Accelerator(found.name, f"{found.major}.{found.minor}", cudnn or 0)


def set_float32_products(*, tf32: bool) -> None:
    """Let float32 convolutions and matrix products of this process be IEEE float32, or TF32.

    TF32 rounds their inputs to 10 bits of mantissa. By default torch uses it in the convolutions of
    GPUs that have it. One of torch's two interfaces sets all of it, as mixing them for one setting
    makes the older one raise when it is read.

    Args:
        tf32: whether GPUs may round; the CPU never does.
    """
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    # What has no setting of its own goes by this one.
    torch.backends.fp32_precision = "ieee"  # type: ignore[attr-defined]


def make_deterministic() -> None:
    """Let this process's GPU compute the same bytes from the same input, wherever torch can.

    An operation without a deterministic implementation warns; see `nondeterministic_operations`.
    To be called before the process first uses its GPU.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    # Compiled reductions too: without, each process times variants of them and takes the fastest.
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Nothing reads such memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


@contextmanager
def nondeterministic_operations(report: Callable[[str], None]) -> Iterator[None]:
    """Report each operation of the block that torch says has no deterministic implementation.

    Other warnings are shown as ever.

    Args:
        report: called with the name of an operation, once for each.
    """
    known: set[str] = set()
    show = warnings.showwarning

    def notice(message: Warning | str, *place: object, **options: object) -> None:
        found = _NONDETERMINISTIC.match(str(message))
        if found is None:
            show(message, *place, **options)  # type: ignore[arg-type]
        elif found[1] not in known:
            known.add(found[1])
            report(found[1])

    with warnings.catch_warnings():
        warnings.filterwarnings("always", ".*does not have a deterministic implementation")
        warnings.showwarning = notice
        yield
