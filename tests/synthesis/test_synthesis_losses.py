"""Equations 3 to 5 against loops in float64, and the shape checks of the test suite."""

import math
import os
from copy import deepcopy

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import nn

from dfshield.datasets import load_images
from dfshield.errors import InputError
from dfshield.synthesis import FeatureStatistics, class_prior_loss, total_variation


def feature_loss(network, x):
    statistics = FeatureStatistics(network)
    with statistics.recording():
        network(x)
        return statistics.loss()


def loop_feature_loss(network, x):
    """Equation 4 in float64, channel by channel: `network` is one sequence of layers."""
    total, x = 0.0, x.double()
    for layer in deepcopy(network).double():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            mean_distance = variance_distance = 0.0
            for channel in range(x.shape[1]):
                values = x[:, channel].reshape(-1).tolist()
                mean = math.fsum(values) / len(values)
                variance = math.fsum((v - mean) ** 2 for v in values) / len(values)
                mean_distance += (mean - layer.running_mean[channel].item()) ** 2
                variance_distance += (variance - layer.running_var[channel].item()) ** 2
            total += math.sqrt(mean_distance) + math.sqrt(variance_distance)
        x = layer(x)
    return total


def test_feature_loss_equals_a_float64_loop_over_layers_and_channels(tiny_teacher):
    x = torch.randn(7, 2, 6, 5, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = loop_feature_loss(tiny_teacher.network, x)
        assert feature_loss(tiny_teacher.network, x).item() == pytest.approx(expected, rel=1e-5)


def test_feature_loss_of_data_drawn_from_the_statistics_is_near_zero_and_rises_when_shifted():
    layer = nn.BatchNorm2d(3)
    layer.running_mean = torch.tensor([-1.0, 0.5, 2.0])
    layer.running_var = torch.tensor([0.25, 1.0, 2.25])
    noise = torch.randn(200, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    x = layer.running_mean.view(1, 3, 1, 1) + layer.running_var.sqrt().view(1, 3, 1, 1) * noise
    network = nn.Sequential(layer).eval()
    near = feature_loss(network, x).item()
    assert near < 0.05
    for shift in (0.5, 1.0, 2.0):
        # A shift of every channel moves the means alone: by shift * sqrt(3) in the norm.
        moved = feature_loss(network, x + shift).item()
        assert moved == pytest.approx(shift * math.sqrt(3), abs=2 * near)
    assert feature_loss(network, 1.5 * x).item() > 1


def test_feature_loss_uses_the_biased_variance():
    layer = nn.BatchNorm2d(1)
    x = torch.tensor([0.0, 2.0]).view(2, 1, 1, 1)
    layer.running_mean, layer.running_var = torch.tensor([1.0]), torch.tensor([1.0])
    assert feature_loss(nn.Sequential(layer).eval(), x).item() == 0


def test_real_images_fit_the_statistics_of_their_teacher_better_than_altered_ones(digits_teacher):
    x, _ = load_images("digits", split="train").tensors(slice(0, 400))
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        real, shifted, unrelated = (
            feature_loss(digits_teacher.network, digits_teacher.normalise(images)).item()
            for images in (x, x + 0.3, noise)
        )
    assert real < 0.5 * shifted
    assert real < 0.5 * unrelated


def test_statistics_of_two_passes_do_not_mix_and_hooks_are_removed(tiny_teacher):
    network = tiny_teacher.network
    x = torch.randn(4, 2, 6, 5, generator=torch.Generator().manual_seed(2))
    statistics = FeatureStatistics(network)
    with torch.no_grad(), statistics.recording():
        network(x)
        first = statistics.loss()
        network(x + 1)
        second = statistics.loss()
        network(x)
        assert torch.equal(statistics.loss(), first)
    assert not torch.equal(first, second)
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_class_prior_is_the_mean_negative_log_probability():
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 3, 1, 1, 2])
    rows = logits.double().tolist()
    expected = -sum(
        row[label] - math.log(sum(math.exp(z) for z in row))
        for row, label in zip(rows, labels.tolist(), strict=True)
    ) / len(rows)
    assert class_prior_loss(logits, labels).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("shape", [(1, 1, 2, 2), (3, 2, 4, 6), (2, 3, 7, 5)])
def test_total_variation_equals_a_loop_over_neighbours(shape):
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = images.double()
    _, _, height, width = shape
    expected = 0.0
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        squares = [
            (values[:, :, r, q] - values[:, :, r + down, q + right]).square().sum().item()
            for r in range(height - down)
            for q in range(width)
            if 0 <= q + right < width
        ]
        expected += math.sqrt(math.fsum(squares))
    assert total_variation(images).item() == pytest.approx(expected, rel=1e-5)


def test_total_variation_grows_like_the_root_of_the_batch_size():
    image = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    one, nine = total_variation(image).item(), total_variation(image.repeat(9, 1, 1, 1)).item()
    assert nine == pytest.approx(3 * one, rel=1e-5)
    assert total_variation(torch.full((2, 1, 4, 4), 0.3)).item() == 0


@pytest.mark.skipif("DFSHIELD_CHECK_SHAPES" not in os.environ, reason="run by test_shapes.py")
def test_a_wrong_shape_is_refused_where_shapes_are_checked():
    with pytest.raises(TypeCheckError):
        total_variation(torch.zeros(3, 4, 4))
    with pytest.raises(TypeCheckError):
        class_prior_loss(torch.zeros(3, 4), torch.zeros(2, dtype=torch.int64))


def test_batchnorm_that_never_runs_is_refused():
    class Bypass(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = nn.BatchNorm2d(3)

        def forward(self, x):
            return x.flatten(1)

    with pytest.raises(InputError, match=r"none of the classifier's BatchNorm layers runs"):
        feature_loss(Bypass(), torch.rand(2, 3, 4, 4))
