"""PartArrays and the conversion of pixels."""

import dataclasses
import hashlib

import numpy as np
import pytest

from dfshield.errors import InputError
from dfshield.storage import decode_images, encode_images


@pytest.mark.parametrize(
    ("dtype", "bound"), [("float32", 0.0), ("float16", 2**-12), ("uint8", 0.5 / 255 + 1e-7)]
)
def test_round_trip_error_is_bounded(dtype, bound):
    draw = np.random.default_rng(0)
    images = draw.random((40, 3, 8, 8), np.float32)
    images[0] = 0
    images[1] = 1
    stored = encode_images(images, dtype)
    decoded = decode_images(stored)
    assert stored.dtype == dtype
    assert decoded.dtype == np.float32
    assert decoded.min() >= 0
    assert decoded.max() <= 1
    error = np.abs(decoded.astype(np.float64) - images).max()
    assert error <= bound
    assert error > bound / 4 or dtype == "float32"
    np.testing.assert_array_equal(encode_images(decoded, dtype), stored)  # idempotent


def test_every_uint8_value_survives():
    values = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    np.testing.assert_array_equal(encode_images(decode_images(values), "uint8"), values)


def test_rounding_noise_is_clipped_and_more_is_refused():
    images = np.full((1, 1, 1, 2), 0.5, np.float32)
    images[..., 0], images[..., 1] = -3e-8, 1 + 2e-7
    np.testing.assert_array_equal(encode_images(images, "float32").ravel(), [0, 1])
    for wrong in (-0.1, 1.1, 255, np.nan, np.inf):
        images[..., 0] = wrong
        with pytest.raises(InputError, match=r"must lie in \[0, 1\]"):
            encode_images(images, "uint8")


@pytest.fixture
def arrays(make_manifest, make_arrays):
    manifest = make_manifest()
    return make_arrays(manifest, manifest.parts[0])


def test_checksum_is_the_documented_one(arrays):
    digest = hashlib.sha256()
    own = {
        kind: np.stack([v for name, v in arrays.columns.items() if name.startswith(kind)], axis=1)
        for kind in ("alpha", "loss")
    }
    for name, values, code, shape in [
        ("images", arrays.images, "<f4", "8x2x5x3"),
        ("labels", arrays.labels, "<i8", "8"),
        ("teacher_logits", arrays.teacher_logits, "<f4", "8x3"),
        ("alphas", own["alpha"], "<f8", "8x3"),
        ("batch", arrays.batch, "<i8", "8"),
        ("seed", arrays.seed, "<i8", "8"),
        ("losses", own["loss"], "<f4", "8x4"),
    ]:
        digest.update(f"{name} {np.dtype(code).name} {shape}\n".encode())
        digest.update(values.astype(code).tobytes(order="C"))
    assert arrays.checksum() == digest.hexdigest()


def test_checksum_does_not_depend_on_memory_layout(arrays):
    strided = np.asfortranarray(arrays.images)
    assert dataclasses.replace(arrays, images=strided).checksum() == arrays.checksum()


def with_values(arrays, column, change):
    """The arrays with other values of a column, common or own."""
    if column in arrays.columns:
        columns = {**arrays.columns, column: change(arrays.columns[column])}
        return dataclasses.replace(arrays, columns=columns)
    return dataclasses.replace(arrays, **{column: change(getattr(arrays, column))})


@pytest.mark.parametrize(
    "column", ["images", "labels", "teacher_logits", "alpha_tv", "loss_class", "loss_total"]
)
def test_checksum_sees_every_column(arrays, column):
    def change(values):
        values = values.copy()
        values.flat[-1] = 1 - values.flat[-1] if column != "labels" else (values.flat[-1] + 1) % 3
        return values

    assert with_values(arrays, column, change).checksum() != arrays.checksum()


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("images", lambda v: v.astype(np.float64)),
        ("images", lambda v: v[0]),
        ("images", lambda v: v + 1),
        ("images", lambda v: v * np.nan),
        ("labels", lambda v: v.astype(np.int32)),
        ("labels", lambda v: v[:-1]),
        ("labels", lambda v: v + 3),
        ("labels", lambda v: v - 3),
        ("teacher_logits", lambda v: v * np.inf),
        ("teacher_logits", lambda v: v[:, 0]),
        ("alpha_tv", lambda v: v[:-1]),
        ("loss_tv", lambda v: v[:, None]),
        ("batch", lambda v: v[:, None]),
        ("seed", lambda v: v.astype(np.uint64)),
    ],
)
def test_arrays_are_validated(arrays, column, change):
    with pytest.raises(InputError, match=column):
        with_values(arrays, column, change)
