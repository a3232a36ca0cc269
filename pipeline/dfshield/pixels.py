"""Images as they are stored, and as models take them."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from dfshield.errors import InputError


def require_images(images: object, key: str = "images") -> None:
    """Check that images are a tensor (n, c, h, w) of numbers.

    Args:
        images: what was given for them.
        key: the argument that they were given for.

    Raises:
        InputError: if they are not, with what to do.
    """
    if not isinstance(images, Tensor):
        remedy = ": torch.from_numpy makes one" if isinstance(images, np.ndarray) else ""
        raise InputError(
            f"{key}: must be a torch tensor (n, c, h, w), but is a {type(images).__name__}{remedy}"
        )
    if images.ndim != 4 or images.is_complex():
        remedy = ": one image is images[None]" if images.ndim == 3 else ""
        raise InputError(
            f"{key}: must be a tensor (n, c, h, w), but is {images.dtype} of shape "
            f"{tuple(images.shape)}{remedy}"
        )


def as_floats(images: Shaped[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Return stored images in [0, 1] as models take them.

    uint8 (0..255) is divided by 255 and half precision widened, both to float32.
    """
    if images.dtype == torch.uint8:
        return images.to(torch.float32).div_(255)
    half = images.dtype in (torch.float16, torch.bfloat16)
    return images.to(torch.float32) if half else images


def box_masks(
    rows: tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]],
    columns: tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]],
    size: tuple[int, int],
) -> Bool[Tensor, "n 1 h w"]:
    """Return where one box in every image lies, cut off at the image's border.

    Args:
        rows: the first of each box and the one behind its last; they may lie outside.
        columns: likewise.
        size: of the images, (h, w).
    """
    inside = [
        (np.arange(length) >= first[:, None]) & (np.arange(length) < end[:, None])
        for (first, end), length in zip((rows, columns), size, strict=True)
    ]
    return torch.from_numpy(inside[0][:, None, :, None] & inside[1][:, None, None, :])
