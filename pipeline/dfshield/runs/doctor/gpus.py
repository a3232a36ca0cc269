"""Whether CUDA can be used in this process, and what GPUs there are: tried, not only counted."""

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from dfshield.errors import one_line

ONLY_COUNTED = "DFSHIELD_COUNTED_GPUS"
"""Environment variable: at 1, GPUs that Ray counts and torch cannot use are places to work on the
CPU. So clusters of GPUs are tested without any."""
DRIVER = Path("/sys/module/nvidia/version")
CPUS = "or work on the CPUs with cluster.gpus_per_worker=0"
_GIB = 1 << 30


@dataclass(frozen=True)
class GpuReport:
    """The state of one GPU.

    Attributes:
        name: of its model.
        capability: its compute capability, such as ``9.0``.
        free_bytes: of its memory.
        total_bytes: all of its memory.
        problem: why it cannot be computed on, or "".
    """

    name: str
    capability: str
    free_bytes: int
    total_bytes: int
    problem: str = ""


@dataclass(frozen=True)
class CudaReport:
    """The state of CUDA in a process.

    Attributes:
        problem: why it cannot be used, and what to do; "" if it can.
        built_for: the version of CUDA that torch was built for, or "".
        driver: the version of NVIDIA's driver, or "".
        gpus: those that torch sees.
    """

    problem: str = ""
    built_for: str = ""
    driver: str = ""
    gpus: tuple[GpuReport, ...] = ()

    @property
    def usable(self) -> int:
        """How many GPUs can be computed on."""
        return sum(not gpu.problem for gpu in self.gpus)

    @property
    def unusable(self) -> str:
        """Why no GPU can be computed on, and what to do; "" if one can."""
        if self.problem or self.usable:
            return self.problem
        problems = "; ".join(f"{gpu.name}: {gpu.problem}" for gpu in self.gpus) or "torch sees none"
        return f"no GPU can be computed on ({problems}): look at nvidia-smi, {CPUS}"

    def format(self) -> str:
        """Return the GPUs in one line."""
        kinds = Counter(_in_words(gpu) for gpu in self.gpus)
        gpus = ", ".join(f"{f'{n} x ' if n > 1 else ''}{text}" for text, n in kinds.items())
        return f"{gpus} (CUDA {self.built_for}, driver {self.driver or 'unknown'})"


def _in_words(gpu: GpuReport) -> str:
    memory = f"{gpu.free_bytes / _GIB:.0f} of {gpu.total_bytes / _GIB:.0f} GiB free"
    text = f"{gpu.name}, capability {gpu.capability}, {memory}"
    return f"{text}, cannot be used: {gpu.problem}" if gpu.problem else text


def only_counted() -> bool:
    """Return whether GPUs are places to work on the CPU where torch cannot use them."""
    return os.environ.get(ONLY_COUNTED) == "1"


def why_no_cuda() -> str:
    """Return why CUDA cannot be used in this process, and what to do; "" if it can.

    The GPUs themselves are not touched.
    """
    if torch.version.hip:
        return f"torch is built for ROCm, which is not supported: install one for CUDA, {CPUS}"
    if not torch.version.cuda:
        return f"torch is built without CUDA: install one for the CUDA of the driver, {CPUS}"
    if torch.cuda.is_available():
        return ""
    begin: Callable[[], None] = torch.cuda.init
    try:
        begin()  # which says why, where is_available only says no
        reason = "it sees no GPU"
    except (RuntimeError, AssertionError) as error:
        reason = one_line(error)
    return (
        f"torch, built for CUDA {torch.version.cuda}, cannot use it ({reason}): update NVIDIA's "
        f"driver or install a torch for an older CUDA, {CPUS}"
    )


def look_at_gpus() -> CudaReport:
    """Return the state of CUDA and of every GPU that torch sees, each after a convolution on it."""
    built_for, driver = str(torch.version.cuda or ""), driver_version()
    problem = why_no_cuda()
    if problem:
        return CudaReport(problem, built_for, driver)
    gpus = tuple(_tried(index) for index in range(torch.cuda.device_count()))
    return CudaReport("", built_for, driver, gpus)


def driver_version() -> str:
    """Return the version of NVIDIA's driver on this machine; "" where there is none."""
    try:
        return DRIVER.read_text().strip()
    except OSError:
        return ""


def _tried(index: int) -> GpuReport:
    properties = torch.cuda.get_device_properties(index)
    free, problem = 0, ""
    try:
        free, _ = torch.cuda.mem_get_info(index)
        found = convolution(torch.device("cuda", index))
        if found != _EXPECTED:
            problem = f"a convolution gives {found:g} instead of {_EXPECTED:g}"
    except RuntimeError as error:
        problem = one_line(error)
    return GpuReport(
        name=properties.name,
        capability=f"{properties.major}.{properties.minor}",
        free_bytes=free,
        total_bytes=properties.total_memory,
        problem=problem,
    )


_EXPECTED = 36.0


def convolution(device: torch.device) -> float:
    """Return a sum over four places of nine ones each, computed by a convolution."""
    images, kernel = torch.ones(1, 1, 4, 4, device=device), torch.ones(1, 1, 3, 3, device=device)
    return float(F.conv2d(images, kernel).sum())
