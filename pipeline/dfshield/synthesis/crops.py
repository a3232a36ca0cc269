"""Random resized crops and flips of a batch, differentiable, as products with small matrices.

A crop is ``R X C^T`` with matrices of bilinear weights, one pair an image. Its gradient is
deterministic on every device, unlike that of sampling on a grid.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

RATIOS = (3 / 4, 4 / 3)
"""Width over height of a crop, as a share of the image's own: drawn log-uniformly."""


@dataclass(frozen=True, eq=False)
class Crops:
    """Where each image of a batch is cropped.

    Attributes:
        top: where the box begins, as a share of the height; left likewise, of the width.
        left: see top.
        height: of the box, as a share of that of the image; width likewise.
        width: see height.
        flipped: whether left and right are exchanged.
    """

    top: Float64[np.ndarray, " n"]
    left: Float64[np.ndarray, " n"]
    height: Float64[np.ndarray, " n"]
    width: Float64[np.ndarray, " n"]
    flipped: Bool[np.ndarray, " n"]


def draw_crops(draw: np.random.Generator, size: int, *, share: float, scale: float) -> Crops:
    """Draw the crops of a batch.

    The area of a crop is ``U(scale, 1)`` of the image, its ratio of width to height log-uniform in
    `RATIOS`; sides that this makes longer than the image's are cut to it. Half of the crops are
    flipped.

    Args:
        draw: what draws; always as many numbers.
        size: images in the batch.
        share: the probability that an image is cropped; the others stay as they are.
        scale: smallest area.
    """
    cropped = draw.random(size) < share
    area = np.where(cropped, draw.uniform(scale, 1.0, size), 1.0)
    narrow, wide = np.log(RATIOS)
    ratio = np.where(cropped, np.exp(draw.uniform(narrow, wide, size)), 1.0)
    height = np.minimum(np.sqrt(area / ratio), 1.0)
    width = np.minimum(np.sqrt(area * ratio), 1.0)
    top, left = (draw.random(size) * (1.0 - side) for side in (height, width))
    return Crops(top, left, height, width, cropped & (draw.random(size) < 0.5))


def cropped(images: Float[Tensor, "n c h w"], crops: Crops) -> Float[Tensor, "n c h w"]:
    """Return the crops of the images, resized to their size (bilinear, half-pixel centres)."""
    rows = _weights(crops.top, crops.height, images.shape[2])
    columns = _weights(crops.left, crops.width, images.shape[3])
    columns[crops.flipped] = columns[crops.flipped][:, ::-1]
    down, across = (
        torch.from_numpy(weights.astype(np.float32)).to(images)[:, None]
        for weights in (rows, columns)
    )
    resized: Tensor = down @ images @ across.transpose(2, 3)
    return resized


def _weights(
    first: Float64[np.ndarray, " n"], length: Float64[np.ndarray, " n"], size: int
) -> Float64[np.ndarray, "n s s"]:
    """Return the bilinear weights of all pixels of an axis in every pixel of its crop."""
    steps = (np.arange(size) + 0.5) / size
    places = (first[:, None] + steps * length[:, None]) * size - 0.5
    places = np.clip(places, 0.0, size - 1.0)
    weights: np.ndarray = np.clip(1.0 - np.abs(places[:, :, None] - np.arange(size)), 0.0, None)
    return weights
