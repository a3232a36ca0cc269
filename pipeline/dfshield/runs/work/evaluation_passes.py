"""How many images of a slice go through a model at once on a GPU: as many as its memory takes."""

from collections.abc import Callable

import torch
from torch import nn

from dfshield.attacks import frozen
from dfshield.engine.peak_memory import PeakMemory, memory_share
from dfshield.runs.work.attack_passes import number_that_fits

PIECES = 8
"""Into as many a slice is cut at first: as many of them as fit go through at once."""


def images_that_fit(
    model: nn.Module, image_shape: tuple[int, int, int], size: int, device: torch.device
) -> int:
    """Return how many images fit, at most ``size``, there and back; all of them on a CPU.

    Args:
        model: under attack, on the device.
        image_shape: (c, h, w).
        size: images in a slice.
        device: where it is computed.
    """
    memory = memory_share(device)
    if memory is None or size < PIECES:
        return size
    piece = -(-size // PIECES)
    peak_of = gradient_peak(model, image_shape, piece, device)
    return min(size, piece * number_that_fits(peak_of, memory=memory, most=PIECES))


def gradient_peak(
    model: nn.Module, image_shape: tuple[int, int, int], piece: int, device: torch.device
) -> Callable[[int], int | None]:
    """Return what measures the memory of a gradient of so many pieces with respect to the images.

    Args:
        model: see `images_that_fit`.
        image_shape: (c, h, w).
        piece: images in a piece.
        device: where it is computed.
    """

    def peak_of(number: int) -> int | None:
        memory = PeakMemory(device)
        images = torch.zeros(number * piece, *image_shape, device=device, requires_grad=True)
        with frozen(model), torch.enable_grad():
            torch.autograd.grad(model(images).sum(), [images])
        return memory.bytes()

    return peak_of
