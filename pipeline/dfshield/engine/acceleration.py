"""How the same mathematics is computed faster: in lower precision, compiled, channels last."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfshield.checks import one_of
from dfshield.errors import InputError

Precision = Literal["float32", "bfloat16"]


class CompilationError(InputError):
    """Compiled code, which the work is bound to, cannot be built or run on this machine."""


@dataclass(frozen=True)
class Acceleration:
    """What a fast path may do; by default there is none and all is plain, eager float32.

    Attributes:
        precision: of convolutions and matrix products; ``bfloat16`` is torch's autocast. Images,
            statistics, losses and weights are float32 always.
        compiled: by ``torch.compile``.
        graphed: whether the kernels of plain passes are recorded once as a CUDA graph and replayed.

    Raises:
        InputError: for an unknown precision, or for graphs of other passes than plain ones.
    """

    precision: Precision = "float32"
    compiled: bool = False
    graphed: bool = False

    def __post_init__(self) -> None:
        one_of(get_args(Precision), self.precision, "precision")
        if self.graphed and not self.plain:
            raise InputError("graphed: is for plain passes, in float32 and not compiled")

    @property
    def plain(self) -> bool:
        """Whether all is computed by the plain kernels."""
        return self.precision == "float32" and not self.compiled

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """Return the context that forward passes run in."""
        return torch.autocast(
            device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"
        )

    def compile(
        self, function: Callable[..., Any], *, of_any_size: bool = False
    ) -> Callable[..., Any]:
        """Return the function compiled, for fixed shapes or for any, or as it is."""
        return torch.compile(function, dynamic=of_any_size) if self.compiled else function


def require_compiled(attempt: Callable[[], object], what: str, device: torch.device) -> None:
    """Build compiled code and run it once, so that it is known to run before work relies on it.

    The compiler keeps code for a few models in a process and would compute further ones without,
    to other bytes and without a word. Here it forgets those that it has, which are compiled anew
    when they are next called.

    Args:
        attempt: builds it and runs it, forward and backward.
        what: what is compiled, for the message.
        device: where it runs.

    Raises:
        CompilationError: if it cannot be built or does not run.
        torch.OutOfMemoryError: as it comes, since it says nothing about compiling.
        torch.AcceleratorError: likewise: this process cannot use its GPU any more.
    """
    from torch._dynamo import config  # seconds, which only compiled work needs
    from torch._dynamo.exc import FailOnRecompileLimitHit

    try:
        with config.patch(fail_on_recompile_limit_hit=True):
            try:
                _run(attempt, device)
            except FailOnRecompileLimitHit:
                torch.compiler.reset()
                _run(attempt, device)
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise CompilationError(
            f"{what} cannot be compiled here: {lines[0]}; torch.compile needs a C++ compiler: "
            "install one, or begin with engine.compile=false"
        ) from error


def _run(attempt: Callable[[], object], device: torch.device) -> None:
    attempt()
    if device.type == "cuda":
        torch.cuda.synchronize(device)  # where what goes wrong on a GPU shows


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
