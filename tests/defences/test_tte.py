"""TTE against ten explicit passes in float64, its gradient, its places, and what it refuses."""

import numpy as np
import pytest
import torch
from torch import nn

from dfshield.classifiers import build
from dfshield.defences import DEFENCES, TTE
from dfshield.errors import InputError


def network(channels=1, classes=5):
    """A small convolutional network in double, for images of any size."""
    draw = torch.Generator().manual_seed(channels)
    model = nn.Sequential(
        nn.Conv2d(channels, 6, 3),
        nn.Tanh(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, classes),
    ).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw, dtype=torch.float64))
    return model.eval()


def images(channels, height, width, n=3):
    draw = torch.Generator().manual_seed(height)
    return torch.rand(n, channels, height, width, generator=draw, dtype=torch.float64)


def window(x, padding, corner):
    """One crop, by its definition: pixel by pixel, zero outside of the image."""
    (top, left), (height, width) = corner, x.shape[2:]
    crop = np.zeros_like(x)
    for row in range(height):
        for column in range(width):
            i, j = row + top - padding, column + left - padding
            if 0 <= i < height and 0 <= j < width:
                crop[:, :, row, column] = x[:, :, i, j]
    return crop


def ten_views(x, padding, corners):
    x = x.numpy()
    mirrored = x[:, :, :, ::-1]
    crops = [window(each, padding, corner) for each in (x, mirrored) for corner in corners]
    return [torch.tensor(np.ascontiguousarray(view)) for view in (x, mirrored, *crops)]


@pytest.mark.parametrize("compat", ["corrected", "official"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 28), (3, 7, 13), (1, 5, 6)])
def test_equals_the_average_of_ten_explicit_passes(shape, compat):
    model, x = network(shape[0]), images(*shape)
    defence = TTE(seed=3, compat=compat)
    views = ten_views(x, 4, defence.corners)
    assert len(views) == 10
    with torch.no_grad():
        expected = sum(model(view) for view in views) / 10
        torch.testing.assert_close(defence.wrap(model)(x), expected, rtol=0, atol=1e-14)
        assert not torch.allclose(expected, model(x), atol=1e-3)


def test_official_is_image_mirror_and_one_crop_of_each_four_times():
    model, x = network(3), images(3, 9, 9)
    defence = TTE(seed=1, compat="official")
    image, mirrored, crop, *_ = views = ten_views(x, 4, defence.corners)
    with torch.no_grad():
        expected = (model(image) + model(mirrored) + 4 * model(crop) + 4 * model(views[6])) / 10
        torch.testing.assert_close(defence.wrap(model)(x), expected, rtol=0, atol=1e-14)
    assert not torch.equal(views[6], crop.flip(3))  # a crop of the mirror image, not its mirror


@pytest.mark.parametrize(("compat", "last"), [("corrected", 6), ("official", 5)])
def test_places_are_drawn_evenly_once_and_official_ones_never_reach_the_end(compat, last):
    many = [TTE(padding=3, seed=seed, compat=compat).corners for seed in range(200)]
    assert {place for corners in many for corner in corners for place in corner} == {
        *range(last + 1)
    }
    differing = [len({tuple(corner) for corner in corners}) for corners in many]
    assert max(differing) == (4 if compat == "corrected" else 1)
    assert TTE(padding=3, seed=7, compat=compat).corners == many[7]


def test_no_global_generator_is_used_and_the_answer_is_the_same_twice():
    model, x = network(), images(1, 8, 8)
    state = torch.random.get_rng_state()
    defended = TTE().wrap(model)
    with torch.no_grad():
        assert torch.equal(defended(x), defended(x))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_gradient_is_that_of_the_average():
    model, x = network(), images(1, 6, 7, n=2).requires_grad_()
    defended = TTE(padding=2).wrap(model)
    assert torch.autograd.gradcheck(defended, [x])
    x_alone = x.detach().requires_grad_()
    (through,) = torch.autograd.grad(defended(x).sum(), [x])
    (alone,) = torch.autograd.grad(model(x_alone).sum(), [x_alone])
    assert not torch.allclose(through, alone)


def test_weights_are_shared_and_the_mode_is_kept():
    model = network().train()
    defended = TTE().wrap(model)
    assert defended.training
    defended.eval()
    assert not model.training
    assert [id(p) for p in defended.parameters()] == [id(p) for p in model.parameters()]


def test_a_classifier_normalises_inside_and_answers_in_float32():
    classifier = build(
        "dfshield:resnet8",
        options={"width": 8},
        input_shape=(3, 8, 8),
        num_classes=4,
        mean=[0.5, 0.4, 0.3],
        std=[0.2, 0.2, 0.2],
    ).eval()
    x = images(3, 8, 8).float()
    defence = TTE()
    views = ten_views(x, 4, defence.corners)
    with torch.no_grad():
        answer = defence.wrap(classifier)(x)
        expected = sum(classifier(view).double() for view in views) / 10
    assert answer.dtype == torch.float32
    torch.testing.assert_close(answer.double(), expected, rtol=1e-5, atol=1e-5)


def test_images_that_a_crop_could_miss_are_refused_in_one_line():
    small = build("dfshield:resnet8", options={"width": 8}, input_shape=(1, 12, 8), num_classes=3)
    with pytest.raises(InputError, match=r"^padding: 8 is too much for images of 12x8") as caught:
        TTE(padding=8).wrap(small)
    assert "\n" not in str(caught.value)
    TTE(padding=7).wrap(small)
    with pytest.raises(InputError, match=r"^padding: 4 is too much for images of 4x9"):
        TTE().wrap(network())(images(1, 4, 9))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"padding": 0}, "padding: 0 must be a whole number of at least 1"),
        ({"padding": True}, "padding: True must be"),
        ({"seed": -1}, "seed: -1 must be"),
        ({"pading": 2}, "pading: is no option of tte: did you mean 'padding'?"),
    ],
)
def test_options_that_make_no_sense_are_named(options, said):
    with pytest.raises(InputError) as caught:
        DEFENCES.make("tte", **options)
    assert str(caught.value).startswith(said)
