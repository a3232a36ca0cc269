"""What several corruptions draw or move with: motion, zoom and fractal clouds."""

import math

import numpy as np
import numpy.typing as npt
from scipy.ndimage import zoom

from dfshield.evaluation.corruptions.base import Image


def motion(x: Image, radius: float, sigma: float, angle: float) -> Image:
    """Return an image blurred along a line, as ImageMagick does.

    Copies are shifted step by step and weighted by half a Gaussian; pixels from beyond the border
    are those at the border.

    Args:
        x: the image.
        radius: of the Gaussian in pixels: ``2 ceil(radius) + 1`` copies.
        sigma: its standard deviation in pixels.
        angle: of the line, in degrees.
    """
    height, width = x.shape[:2]
    steps = np.arange(2 * math.ceil(radius) + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    rows, columns = np.arange(height), np.arange(width)
    down, right = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    blurred = np.zeros_like(x)
    for step, weight in zip(steps.tolist(), weights / weights.sum(), strict=True):
        up, left = math.ceil(step * down - 0.5), math.ceil(step * right - 0.5)
        shifted = x[(rows + up).clip(0, height - 1)][:, (columns + left).clip(0, width - 1)]
        blurred += weight * shifted
    return blurred


def zoomed(x: Image, factor: float) -> Image:
    """Return the middle of an image, enlarged to its size (bilinear)."""
    height, width = x.shape[:2]
    inner = [math.ceil(length / factor) for length in (height, width)]
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    large = zoom(x[top : top + inner[0], left : left + inner[1]], (factor, factor, 1), order=1)
    top, left = (large.shape[0] - height) // 2, (large.shape[1] - width) // 2
    found: Image = large[top : top + height, left : left + width]
    return found


def plasma(size: int, decay: float, draw: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return a fractal cloud in [0, 1] by the diamond-square algorithm.

    Args:
        size: of a side; the cloud is cut out of one whose side is a power of two.
        decay: by which the noise falls with every halving of the step.
        draw: of the noise.
    """
    side = step = 2 ** math.ceil(math.log2(max(2, size)))
    cloud, wibble = np.zeros((side, side)), 100.0

    def shaken(total: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return total / 4 + wibble * draw.uniform(-wibble, wibble, total.shape)

    while step >= 2:
        half = step // 2
        corners = cloud[::step, ::step]
        total = corners + np.roll(corners, -1, axis=0)
        cloud[half::step, half::step] = shaken(total + np.roll(total, -1, axis=1))
        centres, corners = cloud[half::step, half::step], cloud[::step, ::step]
        above = centres + np.roll(centres, 1, axis=0) + corners + np.roll(corners, -1, axis=1)
        cloud[::step, half::step] = shaken(above)
        beside = centres + np.roll(centres, 1, axis=1) + corners + np.roll(corners, -1, axis=0)
        cloud[half::step, ::step] = shaken(beside)
        step, wibble = half, wibble / decay
    cloud -= cloud.min()
    found: npt.NDArray[np.float64] = (cloud / cloud.max())[:size, :size]
    return found
