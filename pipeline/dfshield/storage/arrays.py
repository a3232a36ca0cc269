"""The columns of one part as NumPy arrays, their checksum, and how pixels are stored."""

import hashlib
from dataclasses import dataclass, fields
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float32, Shaped

from dfshield.brief import Brief
from dfshield.errors import InputError

ImageDtype = Literal["float32", "float16", "uint8"]

# Rounding on the way from normalised space leaves pixels such as -3e-8.
_RANGE_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False, repr=False)
class PartArrays(Brief):
    """Some images of the surrogate data set with all that is known of them, one row per image.

    Attributes:
        images: (n, c, h, w), as stored: float32 or float16 in [0, 1], or uint8 in [0, 255].
        labels: (n,) int64, the class each image was made for, in [0, k).
        teacher_logits: (n, k) float32, of the *stored* image (decoded to float32).
        alphas: (n, 3) float64, coefficients of the class, feature and TV term.
        batch: (n,) int64, global index of the batch the image was optimised in.
        seed: (n,) int64, the run's seed.
        losses: (n, 4) float32, last class, feature and TV term, and their weighted sum.

    Raises:
        InputError: if a shape, dtype, label, pixel range or logit is not as said here.
    """

    images: np.ndarray
    labels: np.ndarray
    teacher_logits: np.ndarray
    alphas: np.ndarray
    batch: np.ndarray
    seed: np.ndarray
    losses: np.ndarray

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype.name not in get_args(ImageDtype):
            raise InputError(
                f"images: {self.images.dtype} {self.images.shape} must be n x c x h x w of "
                f"{', '.join(get_args(ImageDtype))}"
            )
        rows = len(self.images)
        classes = self.teacher_logits.shape[1] if self.teacher_logits.ndim == 2 else 0
        _expect("labels", self.labels, "int64", (rows,))
        _expect("teacher_logits", self.teacher_logits, "float32", (rows, classes))
        _expect("alphas", self.alphas, "float64", (rows, 3))
        _expect("batch", self.batch, "int64", (rows,))
        _expect("seed", self.seed, "int64", (rows,))
        _expect("losses", self.losses, "float32", (rows, 4))
        if rows == 0:
            return
        if not (self.labels.min() >= 0 and self.labels.max() < classes):
            raise InputError(f"labels: every label must lie in 0..{classes - 1}")
        if not np.isfinite(self.teacher_logits).all():
            raise InputError("teacher_logits: NaN or infinite values")
        # A comparison with NaN is false, so NaN pixels are refused too.
        if self.images.dtype != np.uint8 and not (
            self.images.min() >= 0 and self.images.max() <= 1
        ):
            raise InputError("images: every pixel must lie in [0, 1]")

    def __len__(self) -> int:
        return len(self.images)

    def checksum(self) -> str:
        r"""Return a SHA-256 (hex) over the columns, whatever file format they are stored in.

        The digest runs over the columns in the order of the class's attributes. Each one
        contributes the ASCII line ``<name> <dtype> <shape>\n``, for example
        ``images float32 800x3x32x32``, and then its values: C order, little-endian, no padding.
        """
        digest = hashlib.sha256()
        for column in fields(self):
            values: np.ndarray = getattr(self, column.name)
            shape = "x".join(str(size) for size in values.shape)
            digest.update(f"{column.name} {values.dtype.name} {shape}\n".encode())
            little_endian = values.astype(values.dtype.newbyteorder("<"), copy=False)
            digest.update(np.ascontiguousarray(little_endian).data)
        return digest.hexdigest()


def encode_images(
    images: Float32[np.ndarray, "n c h w"], dtype: ImageDtype
) -> Shaped[np.ndarray, "n c h w"]:
    """Convert images to the dtype they are stored in.

    float32 is exact; float16 is off by at most 2^-12; uint8 is round(255 x), off by at most 1/510.

    Args:
        images: pixels in [0, 1]; up to 1e-6 outside is clipped.
        dtype: "float32", "float16" or "uint8".

    Raises:
        InputError: for pixels outside [0, 1], NaN, or an unknown dtype.
    """
    if dtype not in get_args(ImageDtype):
        raise InputError(f"image dtype {dtype!r}: choose one of {', '.join(get_args(ImageDtype))}")
    if images.size:
        low, high = float(images.min()), float(images.max())
        if not (low >= -_RANGE_TOLERANCE and high <= 1 + _RANGE_TOLERANCE):
            raise InputError(f"images lie in [{low:g}, {high:g}], but must lie in [0, 1]")
    clipped: np.ndarray = np.clip(images, np.float32(0), np.float32(1))
    if dtype == "uint8":
        return np.rint(clipped * np.float32(255)).astype(np.uint8)
    return clipped.astype(dtype, copy=False)


def decode_images(stored: Shaped[np.ndarray, "n c h w"]) -> Float32[np.ndarray, "n c h w"]:
    """Return stored images as float32 in [0, 1]; what is float32 already is not copied."""
    if stored.dtype == np.uint8:
        return stored.astype(np.float32) / np.float32(255)
    return stored.astype(np.float32, copy=False)


def _expect(name: str, values: np.ndarray, dtype: str, shape: tuple[int, ...]) -> None:
    if values.dtype != np.dtype(dtype) or values.shape != shape:
        raise InputError(
            f"{name}: {values.dtype} {values.shape} must be {dtype} {shape} to fit the images"
        )
