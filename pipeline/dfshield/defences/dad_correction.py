"""The correction of DAD: the low frequencies of an image that a shaken classifier agrees on."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

RADII = (2, 4, 6, 8, 10, 12, 14)
"""Of images of 32 pixels a side."""

FALLBACK = 4
SIDE = 32
WINDOW, SIGMA = 11, 1.5


def low_pass(x: Float[Tensor, "n c h w"], radius: float) -> Float[Tensor, "n c h w"]:
    """Return images whose centred spectrum is cut outside of a disc.

    Args:
        x: images.
        radius: of the disc, in pixels of an image of 32 a side; smaller images have a smaller one.
    """
    height, width = x.shape[2:]
    rows = torch.arange(height, device=x.device, dtype=x.dtype) - height / 2
    columns = torch.arange(width, device=x.device, dtype=x.dtype) - width / 2
    inside = (rows.view(-1, 1) ** 2 + columns**2).sqrt() < radius * min(height, width) / SIDE
    spectrum = torch.fft.fftshift(torch.fft.fft2(x), dim=(2, 3)) * inside
    found: Tensor = torch.fft.ifft2(torch.fft.ifftshift(spectrum, dim=(2, 3))).real
    return found


def ssim(x: Float[Tensor, "n c h w"], other: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
    """Return the structural similarity (Wang et al. 2004) of images, at least 0 in each channel.

    The window is a Gaussian of 11 pixels and standard deviation 1.5, or the largest odd one that
    fits; the range of an image is its largest pixel.
    """
    side = min(WINDOW, *x.shape[2:])
    side -= 1 - side % 2
    places = torch.arange(side, device=x.device, dtype=x.dtype) - side // 2
    bell = torch.exp(-(places**2) / (2 * SIGMA**2))
    bell = bell / bell.sum()
    channels = x.shape[1]
    window = (bell.view(-1, 1) * bell).expand(channels, 1, -1, -1)

    def mean(values: Tensor) -> Tensor:
        return F.conv2d(values, window, groups=channels)

    largest = x.amax((1, 2, 3)).view(-1, 1, 1, 1)
    c1, c2 = (0.01 * largest) ** 2, (0.03 * largest) ** 2
    a, b = mean(x), mean(other)
    variances = mean(x**2) - a**2 + mean(other**2) - b**2
    covariance = mean(x * other) - a * b
    whole = (2 * a * b + c1) / (a**2 + b**2 + c1) * (2 * covariance + c2) / (variances + c2)
    return whole.mean((2, 3)).relu().mean(1)


def chosen_radius(
    similar: Float[Tensor, "n r"], changed: Float[Tensor, "n r"]
) -> Int[Tensor, " n"]:
    """Return the place in `RADII` of the radius that every image is corrected with.

    The largest below the first that fails ``SSIM > 1 - LCR``, scanning upward; that of `FALLBACK`
    where the first fails.

    Args:
        similar: SSIM of the image with its low frequencies, by radius.
        changed: LCR, the share of the shaken classifiers that change the label, by radius.
    """
    holds: Bool[Tensor, "n r"] = similar > 1 - changed
    count = holds.long().cumprod(1).sum(1)
    return torch.where(count > 0, count - 1, RADII.index(FALLBACK))
