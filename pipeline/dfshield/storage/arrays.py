"""The columns of one part as NumPy arrays, their checksum, and how pixels are stored."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float32, Shaped

from dfshield.brief import Brief
from dfshield.errors import InputError
from dfshield.storage.columns import ALPHAS, LOSSES, is_format_1

ImageDtype = Literal["float32", "float16", "uint8"]

# Rounding on the way from normalised space leaves pixels such as -3e-8.
RANGE_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False, repr=False)
class PartArrays(Brief):
    """Some images of the surrogate data set with all that is known of them, one row per image.

    Attributes:
        images: (n, c, h, w), as stored: float32 or float16 in [0, 1], or uint8 in [0, 255].
        labels: (n,) int64, the class each image was made for, in [0, k).
        teacher_logits: (n, k) float32, of the *stored* image (decoded to float32).
        batch: (n,) int64, global index of the batch the image was made in.
        seed: (n,) int64, the run's seed.
        columns: the synthesizer's own columns by name, each (n,); see `Synthesizer.columns`.

    Raises:
        InputError: if a shape, dtype, label, pixel range or logit is not as said here.
    """

    images: np.ndarray
    labels: np.ndarray
    teacher_logits: np.ndarray
    batch: np.ndarray
    seed: np.ndarray
    columns: Mapping[str, np.ndarray]

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
        _expect("batch", self.batch, "int64", (rows,))
        _expect("seed", self.seed, "int64", (rows,))
        for name, values in self.columns.items():
            _expect(name, values, values.dtype.name, (rows,))
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

        The digest runs over the columns in the order of `hashed_columns`. Each one contributes the
        ASCII line ``<name> <dtype> <shape>\n``, for example ``images float32 800x3x32x32``, and
        then its values: C order, little-endian, no padding.
        """
        digest = hashlib.sha256()
        for name, values in hashed_columns(self):
            shape = "x".join(str(size) for size in values.shape)
            digest.update(f"{name} {values.dtype.name} {shape}\n".encode())
            little_endian = values.astype(values.dtype.newbyteorder("<"), copy=False)
            digest.update(np.ascontiguousarray(little_endian).data)
        return digest.hexdigest()

    @classmethod
    def joined(cls, batches: "Sequence[PartArrays]") -> "PartArrays":
        """Return the rows of several batches, one after the other."""
        first = batches[0]
        common = [column.name for column in fields(cls) if column.name != "columns"]
        return cls(
            **{name: np.concatenate([getattr(b, name) for b in batches]) for name in common},
            columns={
                name: np.concatenate([b.columns[name] for b in batches]) for name in first.columns
            },
        )


def hashed_columns(arrays: PartArrays) -> Iterator[tuple[str, np.ndarray]]:
    """Give the columns in the order of the checksum, by name.

    These are ``images``, ``labels``, ``teacher_logits``, ``batch``, ``seed`` and then the
    synthesizer's own, by name. In format 1 the own columns are two matrices: ``alphas`` (n x 3)
    before ``batch``, and ``losses`` (n x 4) at the end.
    """
    yield from ((name, getattr(arrays, name)) for name in ("images", "labels", "teacher_logits"))
    if is_format_1(arrays.columns):
        yield "alphas", np.stack([arrays.columns[name] for name in ALPHAS], axis=1)
    yield from ((name, getattr(arrays, name)) for name in ("batch", "seed"))
    if is_format_1(arrays.columns):
        yield "losses", np.stack([arrays.columns[name] for name in LOSSES], axis=1)
    else:
        yield from sorted(arrays.columns.items())


def num_agreeing(labels: np.ndarray, teacher_logits: np.ndarray) -> int:
    """Return how many images the teacher assigns to their label: labels (n,), logits (n, k)."""
    return int((teacher_logits.argmax(axis=1) == labels).sum())


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
        if not (low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE):
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
