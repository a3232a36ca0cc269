"""Blur: out of focus, through glass, by motion, by zooming."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.ndimage import convolve, gaussian_filter

from dfshield.evaluation.corruptions.base import Corruption, Image, scale
from dfshield.evaluation.corruptions.drawing import motion, zoomed


class DefocusBlur(Corruption):
    """A disc of a radius, its edge softened by a Gaussian, is the kernel."""

    name = "defocus_blur"
    settings: ClassVar[tuple[tuple[float, float], ...]] = (
        (0.3, 0.4),
        (0.4, 0.5),
        (0.5, 0.6),
        (1, 0.2),
        (1.5, 0.1),
    )

    def _changed(self, x: Image, c: tuple[float, float], draw: np.random.Generator) -> Image:
        del draw
        kernel = _disc(c[0] * scale(x), c[1] * scale(x), half=max(1, round(scale(x))))
        blurred = [convolve(x[:, :, k], kernel, mode="mirror") for k in range(x.shape[2])]
        found: Image = np.stack(blurred, 2)
        return found


def _disc(radius: float, sigma: float, *, half: int) -> npt.NDArray[np.float64]:
    """Return a disc, softened by a Gaussian that reaches ``half`` pixels far."""
    reach = int(np.ceil(radius)) + half
    places = np.arange(-reach, reach + 1)
    disc = ((places[:, None] ** 2 + places**2) <= radius**2).astype(float)
    bell = np.exp(-(np.arange(-half, half + 1) ** 2) / (2 * sigma**2))
    soft = convolve(disc, np.outer(bell, bell), mode="constant")
    kernel: npt.NDArray[np.float64] = soft / soft.sum()
    return kernel


class GlassBlur(Corruption):
    """Pixels change places with near ones, between two Gaussian blurs.

    The published code means to swap two pixels, but in colour images copies one over the other;
    here they are swapped.
    """

    name = "glass_blur"
    settings: ClassVar[tuple[tuple[float, int, int], ...]] = (
        (0.05, 1, 1),
        (0.25, 1, 1),
        (0.4, 1, 1),
        (0.25, 1, 2),
        (0.4, 1, 2),
    )

    def _changed(self, x: Image, c: tuple[float, int, int], draw: np.random.Generator) -> Image:
        sigma, far = c[0] * scale(x), max(1, round(c[1] * scale(x)))
        height, width = x.shape[:2]
        x = np.floor(255 * gaussian_filter(x, (sigma, sigma, 0), mode="nearest")) / 255
        moves = draw.integers(-far, far, size=(c[2], height, width, 2))
        for of_pass in moves:
            for row in range(height - far, far, -1):
                for column in range(width - far, far, -1):
                    down, right = of_pass[row - 1, column - 1]
                    other = row + down, column + right
                    kept = x[row, column].copy()
                    x[row, column], x[other] = x[other], kept
        found: Image = gaussian_filter(x, (sigma, sigma, 0), mode="nearest")
        return found


class MotionBlur(Corruption):
    """Motion along a line within 45 degrees of the horizontal."""

    name = "motion_blur"
    settings: ClassVar[tuple[tuple[float, float], ...]] = (
        (6, 1),
        (6, 1.5),
        (6, 2),
        (8, 2),
        (9, 2.5),
    )

    def _changed(self, x: Image, c: tuple[float, float], draw: np.random.Generator) -> Image:
        return motion(x, c[0] * scale(x), c[1] * scale(x), draw.uniform(-45, 45))


class ZoomBlur(Corruption):
    """The mean of the image and of itself enlarged, step by step."""

    name = "zoom_blur"
    settings: ClassVar[tuple[float, ...]] = (1.06, 1.11, 1.16, 1.21, 1.26)

    def _changed(self, x: Image, c: float, draw: np.random.Generator) -> Image:
        del draw
        factors = np.arange(1, c, 0.01)
        total = x + sum(zoomed(x, float(factor)) for factor in factors)
        mean: Image = total / (len(factors) + 1)
        return mean
