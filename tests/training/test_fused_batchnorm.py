"""BatchNorm of the fast paths, against PyTorch's own and against float64."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from dfshield.engine.fused_batchnorm import fuse, fusible, moments, shifted_sums


def layer_and_features(kind, *, affine, seed=0):
    generator = torch.Generator().manual_seed(seed)
    layer = kind(5, affine=affine)
    layer.running_mean.normal_(generator=generator)
    layer.running_var.uniform_(0.3, 2.0, generator=generator)
    if affine:
        nn.init.normal_(layer.weight, generator=generator)
        nn.init.normal_(layer.bias, generator=generator)
    shape = (12, 5) if kind is nn.BatchNorm1d else (12, 5, 4, 3)
    return layer, torch.randn(shape, generator=generator)


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm2d])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_it_computes_what_pytorch_computes(kind, affine, training):
    layer, features = layer_and_features(kind, affine=affine)
    features.requires_grad_()
    twin = fuse(deepcopy(layer)).train(training)
    recorded = []
    twin.record = lambda mean, variance: recorded.append((mean, variance))
    before = {name: value.clone() for name, value in twin.state_dict().items()}
    weights = torch.randn(features.shape, generator=torch.Generator().manual_seed(9))

    layer.train(training).momentum = 1.0  # so that the buffers are the batch's statistics
    outcomes = []
    for module in (layer, twin):
        out = module(features)
        inputs = [features, *(module.parameters() if training else ())]
        outcomes.append((out, *torch.autograd.grad((weights * out).sum(), inputs)))
    for expected, got in zip(*outcomes, strict=True):
        torch.testing.assert_close(got, expected)
    assert len(recorded) == training
    if training:
        torch.testing.assert_close(recorded[0], (layer.running_mean, layer.running_var))
    assert list(twin.state_dict()) == list(before)
    assert all(torch.equal(twin.state_dict()[name], value) for name, value in before.items())


def test_eval_mode_goes_by_the_weights_it_is_entered_with():
    layer, features = layer_and_features(nn.BatchNorm2d, affine=True)
    twin = fuse(deepcopy(layer)).eval()
    for module in (layer.eval(), twin):
        with torch.no_grad():
            module.weight += 1
            module.running_var *= 2
    torch.testing.assert_close(twin.eval()(features), layer(features))


def test_the_moments_are_safe_in_float32_where_the_shift_is_near_the_mean():
    generator = torch.Generator().manual_seed(0)
    features = 1000 + 0.1 * torch.randn(64, 3, 16, 16, generator=generator)
    exact = features.double()
    for groups in (1, 4):
        sums = shifted_sums(features, torch.full((3,), 1000.05), groups=groups)
        offset, variance = moments(sums, 64 * 256 // groups)
        apart = exact.reshape(groups, -1, 3, 256)
        expected = apart.var(dim=(1, 3), correction=0)
        torch.testing.assert_close(variance.double(), expected, rtol=1e-3, atol=0)
        mean = offset.double() + float(torch.tensor(1000.05))
        torch.testing.assert_close(mean, apart.mean(dim=(1, 3)), rtol=1e-8, atol=0)
        # The plain formula is not: nothing of the variance is left.
        plain = features.square().mean() - features.mean().square()
        assert abs(plain - 0.01) > 0.005


def test_layers_of_another_kind_are_left_alone():
    class Wilful(nn.BatchNorm2d):
        def forward(self, features):
            return 2 * super().forward(features)

    assert fusible(nn.BatchNorm2d(3))
    assert not fusible(Wilful(3))
