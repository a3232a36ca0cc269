"""The device that a worker computes on: which of the visible ones it is, and whether it works."""

import gc
import os
import time
from collections.abc import Callable, Sequence

import ray
import torch

from dfshield.errors import UnfitDeviceError, one_line
from dfshield.runs import Engine

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_KEPT_VISIBLE = "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"
_COMPILERS = "TORCHINDUCTOR_COMPILE_THREADS"

FREE_SHARE = 0.9
"""Free memory, of all of a GPU, at which nobody else's is waited for."""
_STILL_S, _LONGEST_S, _POLL_S = 2.0, 30.0, 0.2


def own_gpus() -> tuple[str, ...]:
    """Return the GPUs that Ray has assigned to this process, by its own ids."""
    return tuple(ray.get_runtime_context().get_accelerator_ids().get("GPU", []))


def index_of(gpus: Sequence[str], visible: str | None, *, kept: bool) -> int:
    """Return which of the devices that torch sees is a worker's.

    Args:
        gpus: what Ray has assigned, by its ids.
        visible: ``CUDA_VISIBLE_DEVICES`` of this process.
        kept: whether Ray leaves that as it is, and does not set it to what it has assigned.
    """
    if not gpus or not kept:
        return 0
    seen = visible.split(",") if visible else []
    if gpus[0] in seen:
        return seen.index(gpus[0])
    return int(gpus[0]) if gpus[0].isdecimal() else 0


def limit_compilers(engine: Engine) -> None:
    """Let this process start no more compilers than it has threads, instead of one a core."""
    os.environ.setdefault(_COMPILERS, str(engine.threads))


def take_device(engine: Engine, *, share: float = 1.0) -> torch.device:
    """Return the device of this worker, which is then the current one, after trying it.

    Args:
        engine: says which kind.
        share: of its memory that this process may take; other workers have the rest.

    Raises:
        UnfitDeviceError: if it cannot be computed on.
    """
    limit_compilers(engine)
    if engine.device != "cuda":
        return torch.device(engine.device)
    kept = os.environ.get(_KEPT_VISIBLE, "0").lower() in ("1", "true")
    index = index_of(own_gpus(), os.environ.get(_VISIBLE), kept=kept)
    device = torch.device("cuda", index)
    try:
        torch.cuda.set_device(device)
        if share < 1.0:
            torch.cuda.set_per_process_memory_fraction(share, device)
        torch.ones(1, device=device).add_(1.0).item()
    except (RuntimeError, AssertionError) as error:
        raise UnfitDeviceError(f"GPU {index} cannot be used now: {one_line(error)}") from None
    return device


def uuid_of(device: torch.device) -> str:
    """Return what names a GPU wherever and by whomever it is seen; empty for a CPU."""
    return str(torch.cuda.get_device_properties(device).uuid) if device.type == "cuda" else ""


def free_memory() -> None:
    """Give back what the last task left on the GPU, which other workers may want."""
    in_use: Callable[[], bool] = torch.cuda.is_initialized
    if in_use():
        gc.collect()
        torch.cuda.empty_cache()


def wait_for_memory(
    device: torch.device,
    *,
    look: Callable[[torch.device], tuple[int, int]] = torch.cuda.mem_get_info,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait while the memory of a GPU is being freed: workers that were just ended still hold it.

    Whoever goes on holding it is not waited for: the wait ends when the free memory has not grown
    for two seconds, and after half a minute in any case.

    Args:
        device: nothing is waited for on a CPU.
        look: returns its free and its whole memory in bytes.
        clock: tells the time in seconds.
        sleep: waits for some seconds.
    """
    if device.type != "cuda":
        return
    begun = grown = clock()
    most = 0
    while True:
        free, whole = look(device)
        now = clock()
        if free > most:
            most, grown = free, now
        if free >= FREE_SHARE * whole or now - grown >= _STILL_S or now - begun >= _LONGEST_S:
            return
        sleep(_POLL_S)
