"""Weather: snow, frost, fog, bright light."""

from typing import ClassVar

import numpy as np

from dfshield.evaluation.corruptions.base import Corruption, Image, scale
from dfshield.evaluation.corruptions.drawing import motion, plasma, zoomed

LUMA = np.array([0.299, 0.587, 0.114])
ICE = np.array([0.78, 0.86, 0.92])
"""The colour of the thickest frost."""


class Snow(Corruption):
    """Flakes that fall, from above and turned around, over an image that is whitened."""

    name = "snow"
    settings: ClassVar[tuple[tuple[float, ...], ...]] = (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    )

    def _changed(self, x: Image, c: tuple[float, ...], draw: np.random.Generator) -> Image:
        mean, spread, size, least, radius, sigma, kept = c
        flakes = zoomed(draw.normal(mean, spread, size=(*x.shape[:2], 1)), size)
        flakes = np.where(flakes < least, 0, flakes).clip(0, 1)
        flakes = motion(flakes, radius * scale(x), sigma * scale(x), draw.uniform(-135, -45))
        grey = x if x.shape[2] == 1 else (x @ LUMA)[:, :, None]
        white = kept * x + (1 - kept) * np.maximum(x, 1.5 * grey + 0.5)
        return white + flakes + flakes[::-1, ::-1]


class Frost(Corruption):
    """Ice over the image: ``a x + b ice``.

    The published ice is cut out of six photographs, which are not part of this package. Here it is
    a fractal drawn for each image, whose ridges are white: its figures, and means that it is part
    of, do not quite compare with those of CIFAR-10-C.
    """

    name = "frost"
    settings: ClassVar[tuple[tuple[float, float], ...]] = (
        (1, 0.2),
        (1, 0.3),
        (0.9, 0.4),
        (0.85, 0.4),
        (0.75, 0.45),
    )

    def _changed(self, x: Image, c: tuple[float, float], draw: np.random.Generator) -> Image:
        height, width, channels = x.shape
        cloud = plasma(max(height, width), 1.6, draw)[:height, :width, None]
        ridges = 1 - np.abs(2 * cloud - 1)
        ice = ridges * (ICE if channels == 3 else ICE.mean())
        frosted: Image = c[0] * x + c[1] * ice
        return frosted


class Fog(Corruption):
    """A fractal cloud before the image, at the image's largest value."""

    name = "fog"
    settings: ClassVar[tuple[tuple[float, float], ...]] = (
        (0.2, 3),
        (0.5, 3),
        (0.75, 2.5),
        (1, 2),
        (1.5, 1.75),
    )

    def _changed(self, x: Image, c: tuple[float, float], draw: np.random.Generator) -> Image:
        height, width = x.shape[:2]
        cloud, largest = plasma(max(height, width), c[1], draw), x.max()
        fogged: Image = (x + c[0] * cloud[:height, :width, None]) * largest / (largest + c[0])
        return fogged


class Brightness(Corruption):
    """The value of every pixel (of hue, saturation and value) is raised."""

    name = "brightness"
    settings: ClassVar[tuple[float, ...]] = (0.05, 0.1, 0.15, 0.2, 0.3)

    def _changed(self, x: Image, c: float, draw: np.random.Generator) -> Image:
        del draw
        value = x.max(2, keepdims=True)
        raised = (value + c).clip(0, 1)
        # Hue and saturation stay where the channels keep their ratios; black has none.
        bright: Image = np.where(value > 0, x / np.where(value > 0, value, 1) * raised, raised)
        return bright
