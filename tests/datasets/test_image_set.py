"""ImageSet: conversion, channels, stratified subsets, fingerprint, what it refuses."""

import numpy as np
import pytest
import torch

from dfshield.datasets import ImageSet
from dfshield.errors import InputError


def make(pixels, labels=None, classes=3, **kwargs):
    if labels is None:
        labels = np.arange(len(pixels)) % classes
    names = tuple(f"class {k}" for k in range(classes))
    return ImageSet(pixels, np.asarray(labels), names, "made", "test", **kwargs)


@pytest.fixture
def colour():
    rng = np.random.default_rng(0)
    return make(rng.integers(0, 256, (12, 5, 4, 3), dtype=np.uint8))


def test_uint8_becomes_contiguous_float_nchw_over_255(colour):
    images, labels = colour.tensors()
    assert images.shape == (12, 3, 5, 4)
    assert images.dtype == torch.float32
    assert images.is_contiguous()
    assert labels.dtype == torch.int64
    for n, c, y, x in [(0, 0, 0, 0), (11, 2, 4, 3), (5, 1, 2, 3)]:
        assert images[n, c, y, x].item() == np.float32(colour.pixels[n, y, x, c]) / np.float32(255)
    assert torch.equal((images * 255).round().to(torch.uint8).permute(0, 2, 3, 1),
                       torch.from_numpy(colour.pixels))  # fmt: skip


@pytest.mark.parametrize(
    "index",
    [slice(2, 7), slice(None, None, -1), np.array([7, 0, 7]), np.arange(12) % 2 == 0, slice(0, 0)],
)
def test_rows_are_those_asked_for(colour, index):
    every_image, every_label = colour.tensors()
    images, labels = colour.tensors(index)
    rows = np.arange(12)[index].copy()
    assert torch.equal(images, every_image[rows])
    assert torch.equal(labels, every_label[rows])


def test_only_the_asked_rows_are_converted(colour):
    touched = []

    class Recorder(np.ndarray):
        def __getitem__(self, index):
            touched.append(index)
            return np.asarray(self)[index]

    object.__setattr__(colour, "pixels", colour.pixels.view(Recorder))
    colour.tensors(slice(3, 5))
    assert touched == [slice(3, 5)]


@pytest.mark.parametrize("channels", [1, 3])
def test_tensors_share_no_memory_with_the_set(channels):
    images = make(np.full((3, 4, 4, channels), 0.5, dtype=np.float32))
    x, y = images.tensors()
    x.zero_()
    y.zero_()
    assert (images.pixels == 0.5).all()
    assert images.labels.tolist() == [0, 1, 2]


def test_float_pixels_stay_as_they_are():
    pixels = np.random.default_rng(0).random((4, 3, 2, 1), dtype=np.float32)
    images, _ = make(pixels).tensors()
    assert np.array_equal(images.numpy()[:, 0], pixels[..., 0])


def test_shapes_and_label_types_are_brought_into_form():
    images = make(np.zeros((3, 6, 5), dtype=np.uint8), np.array([[2], [0], [1]], dtype=np.uint8))
    assert len(images) == 3
    assert images.input_shape == (1, 6, 5)
    assert images.num_classes == 3
    assert images.labels.tolist() == [2, 0, 1]
    assert images.labels.dtype == np.int64
    assert make(np.zeros((3, 2, 2), dtype=np.float64)).pixels.dtype == np.float32


def test_rounding_outside_the_range_is_clipped():
    pixels = np.zeros((3, 2, 2), dtype=np.float32)
    pixels[0], pixels[1] = -3e-8, 1 + 2e-7
    images, _ = make(pixels).tensors()
    assert (images.min(), images.max()) == (0, 1)


def test_grey_is_repeated_and_nothing_else_is_converted(colour):
    grey = make(np.random.default_rng(0).integers(0, 256, (6, 4, 4), dtype=np.uint8))
    wide = grey.with_channels(3)
    assert wide.input_shape == (3, 4, 4)
    assert wide.pixels.base is not None, "repetition must not copy"
    one, _ = grey.tensors()
    three, _ = wide.tensors()
    assert torch.equal(three, one.expand(-1, 3, -1, -1))
    assert three.is_contiguous()
    assert grey.with_channels(1) is grey
    assert colour.with_channels(3) is colour
    for refused, channels in [(colour, 1), (colour, 4), (wide, 1), (grey, 0)]:
        with pytest.raises(InputError, match="only grey images"):
            refused.with_channels(channels)


def numbered(counts):
    """One-pixel images that carry their row number, with the given class counts, shuffled."""
    labels = np.repeat(np.arange(len(counts)), counts)
    np.random.default_rng(1).shuffle(labels)
    rows = np.arange(len(labels))
    pixels = np.stack([rows // 256, rows % 256], axis=1).astype(np.uint8).reshape(-1, 1, 2, 1)
    return make(pixels, labels, classes=len(counts))


@pytest.mark.parametrize("counts", [(50, 30, 20), (97, 2, 1), (7, 7, 7), (333, 0, 1)])
@pytest.mark.parametrize("seed", [0, 5])
def test_stratified_keeps_proportions(counts, seed):
    images = numbered(counts)
    total = sum(counts)
    occurring = sum(count > 0 for count in counts)
    for number in range(1, total):
        subset = images.stratified(number, seed=seed)
        got = np.bincount(subset.labels, minlength=len(counts))
        assert len(subset) == number
        assert (got <= counts).all()
        if number >= occurring:
            assert ((got > 0) == (np.array(counts) > 0)).all()
        # Within one of the exact share, or two where a rare class was given its image.
        assert np.abs(got - np.array(counts) * number / total).max() < 2


def test_stratified_is_largest_remainder():
    # Shares of 10: 4.7, 4.2, 1.1.
    got = np.bincount(numbered((47, 42, 11)).stratified(10, seed=0).labels)
    assert got.tolist() == [5, 4, 1]


def test_stratified_is_seeded_ordered_and_without_repetition():
    images = numbered((50, 30, 20))
    subset = images.stratified(40, seed=3)
    rows = subset.pixels[:, 0, 0, 0].astype(int) * 256 + subset.pixels[:, 0, 1, 0]
    assert (np.diff(rows) > 0).all()
    assert np.array_equal(subset.labels, images.labels[rows])
    assert subset.fingerprint() == images.stratified(40, seed=3).fingerprint()
    assert subset.fingerprint() != images.stratified(40, seed=4).fingerprint()
    assert subset.class_names == images.class_names


def test_stratified_of_the_whole_set_and_of_nothing():
    images = numbered((5, 5))
    assert images.stratified(10, seed=0) is images
    assert images.stratified(99, seed=0) is images
    with pytest.raises(InputError, match="num_images: 0"):
        images.stratified(0, seed=0)


def test_global_generators_are_not_touched():
    images = numbered((5, 5))
    state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    images.stratified(4, seed=0)
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_fingerprint_depends_on_content_alone(colour):
    other_name = make(colour.pixels.copy(), colour.labels.copy(), origin="elsewhere")
    assert colour.fingerprint() == other_name.fingerprint()
    strided = make(np.repeat(colour.pixels, 2, axis=0)[::2], colour.labels)
    assert strided.fingerprint() == colour.fingerprint()
    pixels, labels = colour.pixels.copy(), colour.labels.copy()
    pixels[3, 0, 0, 0] ^= 1
    labels[3] = (labels[3] + 1) % 3
    reshaped = make(colour.pixels.reshape(12, 4, 5, 3), colour.labels)
    changed = [make(pixels, colour.labels), make(colour.pixels, labels), reshaped]
    assert len({one.fingerprint() for one in [colour, *changed]}) == 4


GOOD = np.zeros((3, 4, 4, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("pixels", "labels", "said"),
    [
        (GOOD.astype(np.float32) + 255, [0, 1, 2], r"run from 255 to 255: wanted \[0, 1\]"),
        (GOOD.astype(np.float32) - 0.1, [0, 1, 2], r"run from -0.1 to -0.1"),
        (GOOD.astype(np.float32) + np.nan, [0, 1, 2], "from nan to nan"),
        (GOOD.astype(np.float32) + np.inf, [0, 1, 2], "from inf to inf"),
        (GOOD.astype(np.int64), [0, 1, 2], "images are int64: wanted uint8"),
        (GOOD.astype(bool), [0, 1, 2], "images are bool"),
        (GOOD[0, 0], [0, 1, 2], r"shape \(4, 3\): wanted \(n, h, w, c\)"),
        (GOOD[:0], [], r"shape \(0, 4, 4, 3\)"),
        (np.zeros((3, 3, 8, 8), np.uint8), [0, 1, 2], "channels first"),
        (GOOD, [0, 1], "3 images but 2 labels"),
        (GOOD, [0.0, 1.0, 2.0], "labels are float64: wanted integers"),
        (GOOD, [True, False, True], "labels are bool"),
        (GOOD, [0, -1, 2], "labels run from -1 to 2"),
        (GOOD, [0, 1, 2**40], "labels run from 0 to 1099511627776"),
        (GOOD, [0, 1, 3], r"label 3 is outside 0\.\.2"),
        (GOOD, [[0, 1], [0, 1], [1, 1]], r"labels have shape \(3, 2\)"),
    ],
)
def test_refused(pixels, labels, said):
    with pytest.raises(InputError, match=said) as caught:
        make(pixels, np.array(labels), origin="x.npz")
    assert str(caught.value).startswith("x.npz: ")
    assert "\n" not in str(caught.value)


def test_errors_name_the_set_without_an_origin():
    with pytest.raises(InputError, match=r"^made \(test\): label 3"):
        make(GOOD, [0, 1, 3])
