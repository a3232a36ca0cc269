"""Arrays of images and labels as sources hold them, checked and brought to one form."""

import numpy as np
import numpy.typing as npt

from dfshield.errors import InputError

RANGE_TOLERANCE = 1e-6
"""How far a float pixel may lie outside [0, 1] through rounding; it is clipped, not refused."""

_MOST_CLASSES = 1_000_000


def as_labels(labels: np.ndarray, where: str) -> npt.NDArray[np.int64]:
    """Return class numbers as ``(n,)`` int64; ``where`` names their source in an error.

    Raises:
        InputError: not integers, negative, absurdly large, none at all, or of another shape.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise InputError(
            f"{where}: labels have shape {labels.shape}: wanted one class number per image, "
            "(n,) or (n, 1)"
        )
    if labels.dtype.kind not in "iu":
        raise InputError(f"{where}: labels are {labels.dtype}: wanted integers, 0 and up")
    if not len(labels):
        raise InputError(f"{where}: holds no images")
    if labels.min() < 0 or labels.max() >= _MOST_CLASSES:
        raise InputError(
            f"{where}: labels run from {labels.min()} to {labels.max()}: wanted class numbers, "
            "0 and up"
        )
    return labels.astype(np.int64)


def as_pixels(pixels: np.ndarray, where: str) -> np.ndarray:
    """Return images as ``(n, h, w, c)``, uint8 or float32 in [0, 1]; ``where`` names their source.

    Raises:
        InputError: another shape, type or range, with how to write them instead.
    """
    if pixels.ndim == 3:
        pixels = pixels[..., np.newaxis]
    if pixels.ndim != 4 or 0 in pixels.shape:
        raise InputError(
            f"{where}: images have shape {pixels.shape}: wanted (n, h, w, c), or (n, h, w) for grey"
        )
    if pixels.shape[1] in (1, 3) and pixels.shape[3] not in (1, 3):
        raise InputError(
            f"{where}: images of shape {pixels.shape} have their channels first: "
            "wanted channels last, (n, h, w, c)"
        )
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype.kind != "f":
        raise InputError(
            f"{where}: images are {pixels.dtype}: wanted uint8 in 0..255 or float in [0, 1]: write "
            f"{_whole_mended(pixels)}"
        )
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE):
        raise InputError(
            f"{where}: float images run from {low:.6g} to {high:.6g}: wanted [0, 1] "
            f"(0..255 is for uint8): {_float_mended(low, high)}"
        )
    if low < 0 or high > 1:
        pixels = pixels.clip(0, 1)
    return pixels.astype(np.float32, copy=False)


def _whole_mended(pixels: np.ndarray) -> str:
    """Return how to write images of whole numbers, or of none, so that they can be read."""
    if pixels.dtype.kind == "b":
        return "images.astype(numpy.uint8) * 255"
    if pixels.dtype.kind not in "iu" or pixels.min() < 0:
        return "images / largest possible value"
    if pixels.max() <= 1:
        return "images.astype(numpy.uint8) * 255, or the floats if they were cast from [0, 1]"
    return (
        "images.astype(numpy.uint8)" if pixels.max() <= 255 else "images / largest possible value"
    )


def _float_mended(low: float, high: float) -> str:
    """Return what to do about float images of another range."""
    if not (np.isfinite(low) and np.isfinite(high)):
        return "replace what is no number"
    if low >= 0:
        return "write images / 255" if high <= 255 + RANGE_TOLERANCE else "divide by the largest"
    if low >= -1 - RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE:
        return "write (images + 1) / 2 if they were scaled to [-1, 1], else undo the normalisation"
    return "undo the normalisation: images * std + mean"
