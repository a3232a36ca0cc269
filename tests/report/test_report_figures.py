from io import BytesIO

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

from dfshield.errors import InputError
from dfshield.report import (
    accuracy_bars,
    format_eps,
    image_grid,
    prediction_histograms,
    training_curves,
)
from dfshield.report.grid import drawable_names


def decoded(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(png)).convert("RGB"))


def found(picture: np.ndarray, block: np.ndarray) -> list[tuple[int, int]]:
    """Top left corners where the block stands in the picture, pixel for pixel."""
    height, width = block.shape[:2]
    corners = np.argwhere((picture == block[0, 0]).all(axis=-1))
    return [
        (int(y), int(x))
        for y, x in corners
        if np.array_equal(picture[y : y + height, x : x + width], block)
    ]


def enlarged(image: np.ndarray, scale: int) -> np.ndarray:
    """Independent reference: every pixel (c, y, x) as a square of bytes."""
    pixels = np.kron(image.transpose(1, 2, 0), np.ones((scale, scale, 1)))
    return np.broadcast_to(np.round(255 * pixels), (*pixels.shape[:2], 3)).astype(np.uint8)


def test_two_grey_classes_show_the_first_images_as_they_are():
    images = torch.rand(7, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.5
    labels = torch.tensor([1, 0, 1, 0, 0, 1, 0])
    picture = decoded(image_grid(images, labels, ("healthy", "ill"), per_class=3))
    places = [found(picture, enlarged(image.numpy(), 7)) for image in images]
    assert [len(place) for place in places] == [1, 1, 1, 1, 1, 1, 0]  # the fourth 0 is left out
    ill, healthy = [places[n][0] for n in (0, 2, 5)], [places[n][0] for n in (1, 3, 4)]
    assert len({y for y, _ in healthy}) == len({y for y, _ in ill}) == 1
    assert healthy[0][0] + 56 <= ill[0][0]
    assert [x for _, x in healthy] == sorted(x for _, x in healthy) == [x for _, x in ill]


def test_stretching_uses_the_whole_range_and_changes_the_words():
    image = np.linspace(0.4, 0.51, 64, dtype=np.float32).reshape(1, 1, 8, 8)
    plain = decoded(image_grid(image, [0], ["faint"]))
    stretched = decoded(image_grid(image, [0], ["faint"], stretch=True))
    expected = enlarged((image[0] - image.min()) / (image.max() - image.min()), 7)
    assert len(found(stretched, expected)) == 1
    assert len(found(plain, enlarged(image[0], 7))) == 1
    words = (slice(0, 40), slice(0, 200))
    assert not np.array_equal(plain[words], stretched[words])
    flat = np.full((1, 3, 8, 8), 0.25, dtype=np.float32)
    assert found(decoded(image_grid(flat, [0], ["flat"], stretch=True)), enlarged(flat[0], 7))


def test_a_hundred_colour_classes_are_cut_to_a_sensible_height():
    images = np.random.default_rng(0).random((100, 3, 32, 32), dtype=np.float32)
    names = [f"class {n} with quite a long name" for n in range(100)]
    picture = decoded(image_grid(images, np.arange(100), names, per_class=2, title="All"))
    assert 2000 < picture.shape[0] < 3000
    assert 2 * 64 < picture.shape[1] < 600
    assert len(found(picture, enlarged(images[0], 2))) == 1
    assert found(picture, enlarged(images[99], 2)) == []


def test_a_class_without_images_keeps_its_row():
    image = np.random.default_rng(0).random((1, 1, 28, 28), dtype=np.float32)
    with_gap = decoded(image_grid(image, [2], ("a", "b", "c")))
    (y, _), *_ = found(with_gap, enlarged(image[0], 2))
    assert y > 2 * 56
    assert with_gap.shape[0] - y < 56 + 30


@pytest.mark.parametrize(
    ("shape", "labels", "value", "message"),
    [
        ((2, 1, 8, 8), [0, 1], 1.5, r"must lie in \[0, 1\]"),
        ((2, 1, 8, 8), [0, 1], float("nan"), r"must lie in \[0, 1\]"),
        ((2, 2, 8, 8), [0, 1], 0.5, "1 or 3"),
        ((2, 1, 8, 8), [0, 2], 0.5, "2 class names"),
        ((2, 1, 8, 8), [0], 0.5, "2 images"),
    ],
)
def test_bad_images_are_refused(shape, labels, value, message):
    with pytest.raises(InputError, match=message):
        image_grid(np.full(shape, value, dtype=np.float32), labels, ("a", "b"))


def test_rounding_below_zero_is_accepted():
    image_grid(np.full((1, 1, 8, 8), -3e-8, dtype=np.float32), [0], ["a"])


def test_charts_are_deterministic_and_leave_no_trace(make_outcome):
    outcome = make_outcome(0)
    before = dict(matplotlib.rcParams)
    charts = [
        lambda: accuracy_bars(outcome.evaluations),
        lambda: prediction_histograms(outcome.evaluations),
        lambda: training_curves(outcome.history),
    ]
    for chart in charts:
        light, dark = chart()
        assert (light, dark) == chart()
        assert decoded(light).shape == decoded(dark).shape
        assert decoded(light)[0, 0].min() > 240
        assert decoded(dark)[0, 0].max() < 60
        assert not Image.open(BytesIO(light)).info.keys() & {"Software", "Creation Time"}
    assert dict(matplotlib.rcParams) == before


def test_bars_are_as_long_as_the_accuracies(make_evaluation):
    def teal_width(num_correct: int) -> int:
        picture = decoded(accuracy_bars([make_evaluation("student", "Clean", num_correct)])[0])
        return int((picture == (0x0F, 0x76, 0x6E)).all(axis=-1).sum(axis=1).max())

    assert teal_width(400) == pytest.approx(2 * teal_width(200), rel=0.05)


def test_charts_take_nothing_two_and_many_classes(make_evaluation):
    for classes in (2, 100):
        many = make_evaluation("student", "PGD-20", 100, prediction_histogram=[4] * classes)
        assert decoded(prediction_histograms([many], ["$x"] * classes)[0]).size
    for png, _ in (accuracy_bars([]), prediction_histograms([]), training_curves([])):
        assert decoded(png).size


def test_names_that_the_font_lacks_become_numbers():
    names = ["Übergang", "日本", "two\nlines", "$x_{", "a very long name of a class"]
    assert drawable_names(names, length=10) == ["Übergang", "1", "two lines", "$x_{", "a very lo…"]


def test_training_curves_take_gaps():
    history = [
        {"epoch": 0, "update": 0, "loss": float("nan")},
        {"epoch": 0, "update": 1, "loss": 1.0, "agreement_rate": None},
        {
            "epoch": 0,
            "holdout": {
                "agreement_clean": 0.1,
                "agreement_pgd": 0.1,
                "histogram": [20, 0],
                "collapsed": True,
            },
        },
    ]
    assert decoded(training_curves(history)[0]).size


@pytest.mark.parametrize(
    ("eps", "text"),
    [
        (8 / 255, "8/255"),
        (128 / 255, "128/255"),
        (0.1, "0.1"),
        (0.2, "0.2"),
        (0.5, "0.5"),
        (1, "1"),
    ],
)
def test_eps_is_written_as_people_write_it(eps, text):
    assert format_eps(float(eps)) == text
