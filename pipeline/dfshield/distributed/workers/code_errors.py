"""Errors of the code that workers run: a retry on another worker would raise them again."""

import traceback
from pathlib import Path

import ray
import torch
import torch.distributed

from dfshield.errors import one_line
from dfshield.runs.execution.gpu_memory import format_out_of_memory

OUT_OF_MEMORY = "out of GPU memory"
"""The origin of every error that says so, wherever it was raised."""
_COLLECTIVES = Path(torch.distributed.__file__).parent


class CodeError(Exception):
    """An error of code other than `DfshieldError`, in a form that can be unpickled anywhere.

    Attributes:
        reason: its type and message, in one line.
        origin: its type and the line of code that raised it, which identify it. None where a lost
            worker, machine or GPU can cause the same error, so that a retry may help.

    Args:
        reason: see above.
        origin: see above.
    """

    def __init__(self, reason: str, origin: str | None) -> None:
        super().__init__(reason, origin)
        self.reason = reason
        self.origin = origin

    def __str__(self) -> str:
        return self.reason

    @classmethod
    def of(cls, error: Exception) -> "CodeError":
        """Return the `CodeError` for an error that has just been caught."""
        if isinstance(error, torch.OutOfMemoryError):
            return cls(format_out_of_memory(error), OUT_OF_MEMORY)
        return cls(f"{type(error).__name__}: {one_line(error)}", _origin(error))


def format_repeated(reason: str, origin: str | None = None) -> str:
    """Return the message for an error of some origin that two workers have raised."""
    if origin == OUT_OF_MEMORY:
        return f"twice {reason}"
    return f"{reason} (two workers raised it, so it is an error of the code or of its settings)"


def _origin(error: Exception) -> str | None:
    if isinstance(error, torch.AcceleratorError | ray.exceptions.RayError):
        return None
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    file = frame.f_code.co_filename
    if Path(file).is_relative_to(_COLLECTIVES):
        return None
    return f"{type(error).__qualname__} at {file}:{line}"
