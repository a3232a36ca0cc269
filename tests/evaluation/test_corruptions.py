"""The fifteen corruptions by their definitions, on any size, and accuracy under them."""

import colorsys
import io
import math

import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn

from dfshield.datasets import load_images
from dfshield.errors import InputError
from dfshield.evaluation.corruptions import (
    CORRUPTIONS,
    CorruptionsResult,
    evaluate_corruptions,
)
from dfshield.evaluation.corruptions.blur import GlassBlur
from dfshield.evaluation.corruptions.drawing import motion, plasma, zoomed

ROBUSTBENCH = {
    "shot_noise motion_blur snow pixelate gaussian_noise defocus_blur brightness fog zoom_blur "
    "frost glass_blur impulse_noise contrast jpeg_compression elastic_transform"
}
SHAPES = [(1, 8, 8), (3, 32, 32), (1, 28, 31), (3, 45, 40)]


def smooth(*shape, seed=0):
    """Images with structure: a coarse pattern, enlarged."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.rand(shape[0], shape[1], 5, 5, generator=draw)
    return nn.functional.interpolate(coarse, shape[2:], mode="bicubic").clamp(0, 1)


def image(x):
    return np.moveaxis(x[0].double().numpy(), 0, 2)


def stored(values):
    """What values come out as: 256 levels, cut off."""
    return torch.from_numpy(np.moveaxis(np.floor(255 * values.clip(0, 1) + 1e-6) / 255, 2, 0))


def test_they_are_those_of_robustbench():
    assert set(CORRUPTIONS) == set(*map(str.split, ROBUSTBENCH))
    assert all(len(kind.settings) == 5 for kind in CORRUPTIONS.values())


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_contract(name, shape):
    corruption, x = CORRUPTIONS.make(name), smooth(3, *shape)
    before, state = x.clone(), (torch.random.get_rng_state(), np.random.get_state()[1].copy())  # noqa: NPY002
    by_severity = [corruption(x, severity=each, seed=4) for each in (1, 5)]
    for found in by_severity:
        assert found.shape == x.shape
        assert found.dtype == torch.float32
        assert (found.min(), found.max()) >= (0, 0)
        assert found.max() <= 1
        torch.testing.assert_close(255 * found, (255 * found).round(), rtol=0, atol=1e-4)
    assert torch.equal(x, before)
    assert torch.equal(torch.random.get_rng_state(), state[0])
    assert np.array_equal(np.random.get_state()[1], state[1])  # noqa: NPY002
    # An image's draws depend on the seed and its number, not on the images beside it.
    assert torch.equal(corruption(x, severity=5, seed=4), by_severity[1])
    assert torch.equal(corruption(x[1:2], severity=5, seed=4, first=1), by_severity[1][1:2])
    far = [(found - x).abs().mean() for found in by_severity]
    assert far[1] > 0.003 or (name, shape) == ("defocus_blur", (1, 8, 8))  # a third of a pixel
    if name != "elastic_transform":  # its settings trade one part for another
        assert far[1] >= far[0]


def test_noise_is_of_its_size():
    x = torch.full((1, 3, 96, 96), 0.4)
    for severity, size in enumerate((0.04, 0.06, 0.08, 0.09, 0.10), start=1):
        found = CORRUPTIONS.make("gaussian_noise")(x, severity=severity)
        assert float(found.std()) == pytest.approx(size, rel=0.05)
    shot = CORRUPTIONS.make("shot_noise")(x, severity=3)
    assert float(shot.var()) == pytest.approx(0.4 / 100, rel=0.1)
    impulses = CORRUPTIONS.make("impulse_noise")(x, severity=5)
    shares = [float((impulses == value).double().mean()) for value in (0.0, 1.0)]
    assert shares == pytest.approx([0.035, 0.035], abs=0.006)


def test_brightness_raises_the_value_of_hsv():
    x = smooth(1, 3, 9, 9)
    x[0, :, 0, 0] = 0
    found = CORRUPTIONS.make("brightness")(x, severity=4)[0]
    expected = image(x)
    for row in range(9):
        for column in range(9):
            h, s, v = colorsys.rgb_to_hsv(*expected[row, column])
            expected[row, column] = colorsys.hsv_to_rgb(h, s, min(1, v + 0.2))
    torch.testing.assert_close(found.double(), stored(expected), rtol=0, atol=1.01 / 255)


def test_contrast_and_fog_are_their_formulas():
    x = smooth(1, 3, 16, 16)
    values = image(x)
    mean = values.mean((0, 1))
    found = CORRUPTIONS.make("contrast")(x, severity=5)[0].double()
    assert torch.allclose(found, stored((values - mean) * 0.15 + mean), atol=1.01 / 255)
    cloud = plasma(16, 3, np.random.default_rng(np.random.SeedSequence(2, spawn_key=(0,))))
    assert (cloud.min(), cloud.max()) == (0, 1)
    fogged = (values + 0.5 * cloud[:, :, None]) * values.max() / (values.max() + 0.5)
    found = CORRUPTIONS.make("fog")(x, severity=2, seed=2)[0].double()
    assert torch.allclose(found, stored(fogged), atol=1.01 / 255)


def test_motion_is_half_a_gaussian_along_a_line():
    x = np.zeros((21, 21, 1))
    x[10, 10] = 1
    weights = np.exp(-(np.arange(9) ** 2) / (2 * 2.0**2))
    weights /= weights.sum()
    level = motion(x, 4, 2, 0)[10, :, 0]
    assert np.allclose(level[10 : 10 - 9 : -1], weights)
    steep = motion(x, 4, 2, -90)[:, 10, 0]
    assert np.allclose(steep[10:19], weights)
    flat = np.full((7, 9, 3), 0.3)
    assert np.allclose(motion(flat, 8, 3, 33), 0.3)


def test_defocus_is_a_disc_and_zoom_keeps_the_middle():
    x = torch.zeros(1, 1, 64, 64)
    x[0, 0, 32, 32] = 1
    found = CORRUPTIONS.make("defocus_blur")(x, severity=5)[0, 0]
    assert float(found.sum()) == pytest.approx(1, abs=0.15)  # but for 256 levels
    inside = [(i, j) for i in range(-3, 4) for j in range(-3, 4) if math.hypot(i, j) <= 3]
    assert {(i - 32, j - 32) for i, j in found.nonzero().tolist()} >= set(inside)
    lit = smooth(1, 3, 20, 26)
    assert np.allclose(zoomed(image(lit), 1.0), image(lit))
    larger = zoomed(image(lit), 1.2)
    assert larger.shape == (20, 26, 3)
    assert np.abs(larger[9:11, 12:14] - image(lit)[9:11, 12:14]).max() < 0.2


def test_glass_moves_pixels_and_makes_none(monkeypatch):
    monkeypatch.setattr(GlassBlur, "settings", ((0, 1, 2),) * 5)
    x = (torch.arange(3 * 100).view(1, 3, 10, 10) % 251) / 255
    found = GlassBlur()(x, severity=1)
    before, after = ((255 * each[0]).round().flatten(1).T.tolist() for each in (x, found))
    assert sorted(before) == sorted(after)
    assert not torch.equal(found, x)


def test_pixels_and_jpeg_are_those_of_pillow():
    x = (255 * smooth(1, 3, 24, 30)).round() / 255
    as_file = PIL.Image.fromarray((255 * image(x)).round().astype(np.uint8))
    small = as_file.resize((19, 15), PIL.Image.Resampling.BOX)
    large = np.asarray(small.resize((30, 24), PIL.Image.Resampling.BOX))
    found = CORRUPTIONS.make("pixelate")(x, severity=5)[0].permute(1, 2, 0)
    assert np.array_equal((255 * found).round().numpy(), large)
    file = io.BytesIO()
    as_file.save(file, "JPEG", quality=58)
    read = np.asarray(PIL.Image.open(file))
    found = CORRUPTIONS.make("jpeg_compression")(x, severity=3)[0].permute(1, 2, 0)
    assert np.array_equal((255 * found).round().numpy(), read)


class Dark(nn.Module):
    """Tells images by whether their mean is below a half."""

    def forward(self, x):
        mean = x.mean((1, 2, 3))
        return torch.stack([0.5 - mean, mean - 0.5], 1)


def test_accuracy_is_the_share_of_corrupted_images_that_are_right():
    x = torch.linspace(0.1, 0.9, 40).view(-1, 1, 1, 1).expand(-1, 1, 8, 8).clone()
    y = (torch.linspace(0.1, 0.9, 40) > 0.5).long()
    y[0] = 1  # wrong as it is
    chosen = [CORRUPTIONS.make(name) for name in ("brightness", "contrast")]
    result = evaluate_corruptions(Dark(), (x, y), corruptions=chosen, severities=(2, 5))
    assert result.clean == 39 / 40
    for severity, accuracy in zip((2, 5), result.accuracy["brightness"], strict=True):
        bright = chosen[0](x, severity=severity)
        assert accuracy == float((Dark()(bright).argmax(1) == y).double().mean())
    assert result.accuracy["contrast"][0] == pytest.approx(39 / 40, abs=1 / 40)
    assert result.by_corruption["brightness"] == pytest.approx(
        sum(result.accuracy["brightness"]) / 2
    )
    assert result.mean == pytest.approx(sum(result.by_corruption.values()) / 2)
    assert CorruptionsResult.from_json(result.to_json()) == result
    sliced = evaluate_corruptions(
        Dark(), (x, y), corruptions=chosen, severities=(2, 5), slice_size=7
    )
    assert sliced.accuracy == result.accuracy


def test_all_fifteen_on_digits_cost_little():
    images = load_images("digits").stratified(10, seed=0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    result = evaluate_corruptions(model, images, severities=(3,))
    assert list(result.accuracy) == list(CORRUPTIONS)


@pytest.mark.parametrize(
    ("images", "severity", "said"),
    [
        (torch.rand(1, 3, 8, 8), 6, "severity: 6 must be from 1 to 5"),
        (torch.rand(1, 3, 8, 8), 0, "severity: 0 must be from 1 to 5"),
        (torch.rand(1, 2, 8, 8), 1, "images: of shape (2, 8, 8); corruptions are defined for grey"),
        (torch.rand(1, 1, 3, 8), 1, "images: of shape (1, 3, 8); corruptions are defined for grey"),
    ],
)
def test_what_cannot_be_corrupted_is_refused_in_one_line(images, severity, said):
    with pytest.raises(InputError) as caught:
        CORRUPTIONS.make("snow")(images, severity=severity)
    assert str(caught.value).startswith(said)
