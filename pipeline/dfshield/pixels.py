"""Images as they are stored, and as models take them."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor


def as_floats(images: Shaped[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Return stored images in [0, 1] as models take them.

    uint8 (0..255) is divided by 255 and half precision widened, both to float32.
    """
    if images.dtype == torch.uint8:
        return images.to(torch.float32).div_(255)
    half = images.dtype in (torch.float16, torch.bfloat16)
    return images.to(torch.float32) if half else images
