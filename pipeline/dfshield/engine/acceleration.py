"""How the same mathematics is computed faster: in lower precision, compiled, channels last."""

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfshield.checks import one_of

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Acceleration:
    """What a fast path may do; by default there is none and all is plain, eager float32.

    Attributes:
        precision: of convolutions and matrix products; ``bfloat16`` is torch's autocast. Images,
            statistics, losses and weights are float32 always.
        compiled: by ``torch.compile``.

    Raises:
        InputError: for an unknown precision.
    """

    precision: Precision = "float32"
    compiled: bool = False

    def __post_init__(self) -> None:
        one_of(get_args(Precision), self.precision, "precision")

    @property
    def plain(self) -> bool:
        """Whether it leaves everything as it is."""
        return self == Acceleration()

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """Return the context that forward passes run in."""
        return torch.autocast(
            device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"
        )

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function compiled for fixed shapes, or as it is."""
        return torch.compile(function, dynamic=False) if self.compiled else function


def can_compile(attempt: Callable[[], object], what: str) -> bool:
    """Return whether compiled code can be built and run, warning if it cannot.

    Args:
        attempt: builds it and runs it once, forward and backward.
        what: what is compiled, for the warning.
    """
    try:
        attempt()
    except Exception as error:  # noqa: BLE001  compilers fail with errors of every kind
        lines = str(error).strip().splitlines() or [type(error).__name__]
        warnings.warn(
            f"{what} could not be compiled and is computed without: {lines[0]}", stacklevel=2
        )
        return False
    return True


def channels_last(module: nn.Module) -> nn.Module:
    """Let the module's convolutions compute in channels-last order; its numbers stay the same."""
    moved: nn.Module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved


def in_one_layout(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Return the images in channels-last order, always with the same strides.

    ``contiguous(memory_format=torch.channels_last)`` leaves images of a single channel with the
    strides they came with, and what was compiled for one would be compiled again for the other.
    """
    pixels = images.permute(0, 2, 3, 1)
    return pixels.flatten(1).view(pixels.shape).permute(0, 3, 1, 2)
