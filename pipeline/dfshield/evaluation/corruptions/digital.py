"""What processing does: contrast, elastic distortion, coarse pixels, JPEG."""

import io
from typing import ClassVar

import numpy as np
import PIL.Image
from scipy.ndimage import gaussian_filter, map_coordinates

from dfshield.evaluation.corruptions.base import Corruption, Image, eight_bit, from_eight_bit


class Contrast(Corruption):
    """Every channel moves towards its mean."""

    name = "contrast"
    settings: ClassVar[tuple[float, ...]] = (0.75, 0.5, 0.4, 0.3, 0.15)

    def _changed(self, x: Image, c: float, draw: np.random.Generator) -> Image:
        del draw
        mean = x.mean((0, 1), keepdims=True)
        found: Image = (x - mean) * c + mean
        return found


class ElasticTransform(Corruption):
    """An affine map that moves three points, then a smooth displacement of every pixel."""

    name = "elastic_transform"
    settings: ClassVar[tuple[tuple[float, float, float], ...]] = (
        (0, 0, 0.08),
        (0.05, 0.2, 0.07),
        (0.08, 0.06, 0.06),
        (0.1, 0.04, 0.05),
        (0.1, 0.03, 0.03),
    )

    def _changed(self, x: Image, c: tuple[float, float, float], draw: np.random.Generator) -> Image:
        far, smooth, shake = (value * min(x.shape[:2]) for value in c)
        rows, columns = np.indices(x.shape[:2]).astype(float)
        middle, square = np.array(x.shape[:2]) // 2, min(x.shape[:2]) // 3
        corners = middle + square * np.array([[1, 1], [1, -1], [-1, -1]])
        moved = corners + draw.uniform(-shake, shake, size=(3, 2))
        # Where every pixel comes from: the affine map from the moved points back.
        back = np.linalg.solve(np.c_[moved, np.ones(3)], corners.astype(float))
        source = np.stack([rows, columns, np.ones_like(rows)], 2) @ back
        turned = _sampled(x, source[:, :, 0], source[:, :, 1], mode="mirror")
        down, right = (
            far * gaussian_filter(draw.uniform(-1, 1, x.shape[:2]), smooth, truncate=3)
            for _ in range(2)
        )
        return _sampled(turned, rows + down, columns + right, mode="reflect")


def _sampled(x: Image, rows: Image, columns: Image, *, mode: str) -> Image:
    """Return every channel at places between its pixels (bilinear)."""
    channels = [
        map_coordinates(x[:, :, k], [rows, columns], order=1, mode=mode) for k in range(x.shape[2])
    ]
    return np.stack(channels, 2)


class Pixelate(Corruption):
    """The image in fewer pixels."""

    name = "pixelate"
    settings: ClassVar[tuple[float, ...]] = (0.95, 0.9, 0.85, 0.75, 0.65)

    def _changed(self, x: Image, c: float, draw: np.random.Generator) -> Image:
        del draw
        height, width = x.shape[:2]
        image, box = PIL.Image.fromarray(eight_bit(x)), PIL.Image.Resampling.BOX
        small = image.resize((int(width * c), int(height * c)), box)
        return from_eight_bit(np.asarray(small.resize((width, height), box)))


class JPEGCompression(Corruption):
    """The image as a JPEG file of a quality."""

    name = "jpeg_compression"
    settings: ClassVar[tuple[int, ...]] = (80, 65, 58, 50, 40)

    def _changed(self, x: Image, c: int, draw: np.random.Generator) -> Image:
        del draw
        file = io.BytesIO()
        PIL.Image.fromarray(eight_bit(x)).save(file, "JPEG", quality=c)
        return from_eight_bit(np.asarray(PIL.Image.open(file)))
