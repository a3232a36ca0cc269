"""Calling the code of others without keeping what it sets for the whole process.

A module may switch gradients off, seed generators or turn warnings into errors when it is imported;
all of that would hold for our own work as well, and only in processes that import the module late.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def _autocast_depth() -> int:
    depth = torch.autocast_increment_nesting() - 1
    torch.autocast_decrement_nesting()
    return depth


def _leave_autocast(depth: int) -> None:
    """Go back to a depth of nested autocasts, which above 0 keep weights as they once were cast."""
    while _autocast_depth() > depth:
        torch.autocast_decrement_nesting()
    if depth == 0:
        torch.clear_autocast_cache()


# How each setting is read and written. The gradient's mode is kept by `torch.inference_mode`.
_SETTINGS: tuple[tuple[Callable[[], Any], Callable[[Any], object]], ...] = (
    (torch.get_default_dtype, torch.set_default_dtype),
    (
        torch.get_default_device,
        lambda device: torch.set_default_device(None if device.type == "cpu" else device),
    ),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    (_autocast_depth, _leave_autocast),
    (torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled),
    *(
        (
            lambda device=device: torch.is_autocast_enabled(device),
            lambda enabled, device=device: torch.set_autocast_enabled(device, enabled),
        )
        for device in ("cpu", "cuda")
    ),
    *(
        (
            lambda device=device: torch.get_autocast_dtype(device),
            lambda dtype, device=device: torch.set_autocast_dtype(device, dtype),
        )
        for device in ("cpu", "cuda")
    ),
)


@contextmanager
def contained() -> Iterator[None]:
    """Let the block change settings of torch, NumPy and `warnings` for itself alone.

    In the block gradients are on and tensors are ordinary ones, whatever the caller's mode is; the
    generator of the CPU is afterwards as it was.
    """
    before = [read() for read, _ in _SETTINGS]
    try:
        with (
            torch.random.fork_rng(devices=[]),
            torch.inference_mode(False),
            np.errstate(),
            warnings.catch_warnings(),
        ):
            yield
    finally:
        for (read, write), value in zip(_SETTINGS, before, strict=True):
            if read() != value:
                write(value)
