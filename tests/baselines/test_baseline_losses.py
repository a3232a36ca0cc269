"""The baselines' losses and rules in float64, and their generators for every size."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dfshield.baselines.ait import trades_loss
from dfshield.baselines.dast import imitation_loss
from dfshield.baselines.dfard import balance, next_temperature
from dfshield.baselines.dfme import disagreement, forward_differences, recovered_logits
from dfshield.baselines.networks import (
    AuxiliaryClassifierNetwork,
    BranchedNetwork,
    NormalisedNetwork,
)
from dfshield.synthesis.generator_network import pixels_of


@pytest.fixture
def logits():
    rng = np.random.default_rng(0)
    return 2 * rng.normal(size=(6, 4)), 2 * rng.normal(size=(6, 4))


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def tensors(*arrays):
    return [torch.from_numpy(array) for array in arrays]


@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_imitation_is_of_the_teachers_class_and_its_probabilities(logits, beta):
    student, teacher = map(log_softmax, logits)
    of_labels = -student[np.arange(6), teacher.argmax(1)].mean()
    of_probabilities = ((np.exp(student) - np.exp(teacher)) ** 2).mean()
    found = imitation_loss(*tensors(*logits), beta=beta).item()
    assert found == pytest.approx(of_labels + beta * of_probabilities, rel=1e-12)


def test_logits_are_recovered_from_probabilities_but_for_their_mean(logits):
    _, teacher = logits
    expected = teacher - teacher.mean(1, keepdims=True)
    given = np.log(np.exp(teacher) / np.exp(teacher).sum(1, keepdims=True)) + 3.0
    np.testing.assert_allclose(recovered_logits(*tensors(given)).numpy(), expected, atol=1e-12)


def test_disagreement_is_the_mean_distance_over_classes(logits):
    found = disagreement(*tensors(*logits)).numpy()
    np.testing.assert_allclose(found, np.abs(logits[0] - logits[1]).mean(1), rtol=1e-12)


def test_the_loss_of_trades_is_that_of_the_formula(logits):
    clean, adversarial = map(log_softmax, logits)
    labels = np.arange(6) % 4
    apart = (np.exp(clean) * (clean - adversarial)).sum(1).mean()
    found = trades_loss(*tensors(*logits, labels), beta=6.0).item()
    assert found == pytest.approx(-clean[np.arange(6), labels].mean() + 6 * apart, rel=1e-12)


def test_a_weight_makes_its_term_as_large_as_the_first():
    two, zero = torch.tensor(2.0), torch.tensor(0.0)
    assert balance(two, torch.tensor(0.5)) == 4
    assert balance(two, zero) == balance(two, torch.tensor(1e-9)) == 100
    assert balance(zero, two) == 0


def test_the_temperature_follows_the_loss_within_its_bounds():
    assert next_temperature(4.0, 1.0, 0.9, change=0.05) == pytest.approx(3.8)
    assert next_temperature(4.0, 1.0, 1.1, change=0.05) == pytest.approx(4.2)
    assert next_temperature(4.0, 1.0, 1.0, change=0.05) == 4
    assert next_temperature(1.01, 1.0, 0.9, change=0.05) == 1
    assert next_temperature(19.9, 1.0, 1.1, change=0.05) == 20


# ---------------------------------------------------------------- forward differences


@pytest.fixture
def disagreeing():
    """The disagreement of two small networks in float64, of what the last tanh is given."""
    rng = torch.Generator().manual_seed(1)

    def network():
        made = nn.Sequential(nn.Flatten(), nn.Linear(12, 9), nn.Tanh(), nn.Linear(9, 3)).double()
        for weight in made.parameters():
            weight.data = torch.randn(weight.shape, generator=rng, dtype=torch.float64)
        return made

    student, teacher = network(), network()
    at = torch.randn(5, 1, 3, 4, generator=rng, dtype=torch.float64)

    def values_of(made):
        images = pixels_of(made)
        return -disagreement(student(images), recovered_logits(teacher(images)))

    given = at.clone().requires_grad_()
    (exact,) = torch.autograd.grad(values_of(given).sum(), given)
    return values_of, at, exact


def test_differences_along_all_axes_are_the_gradient(disagreeing):
    values_of, at, exact = disagreeing
    axes = 7.0 * torch.eye(12, dtype=torch.float64).reshape(12, 1, 1, 3, 4).expand(12, 5, 1, 3, 4)
    found, values = forward_differences(values_of, at, step=1e-6, directions=axes)
    torch.testing.assert_close(found, exact, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(values, values_of(at))


def test_a_random_direction_gives_the_gradients_share_in_it(disagreeing):
    values_of, at, exact = disagreeing
    directions = torch.randn(2, 5, 1, 3, 4, dtype=torch.float64, generator=torch.Generator())
    found, _ = forward_differences(values_of, at, step=1e-6, directions=directions)
    expected = torch.zeros_like(at)
    for direction in directions:
        for i in range(5):
            unit = direction[i] / direction[i].norm()
            expected[i] += 12 / 2 * (exact[i] * unit).sum() * unit
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


# ---------------------------------------------------------------- generators


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 28, 28), (2, 7, 5)])
@pytest.mark.parametrize("classes", [2, 100])
def test_generators_make_images_of_any_size_and_number_of_classes(shape, classes):
    rng = torch.Generator().manual_seed(0)
    labels = torch.tensor([classes - 1, 0, 1, 1])
    codes = torch.randn(4, 6, generator=rng)
    channel = torch.zeros(1, shape[0], 1, 1)
    given = {"num_classes": classes, "width": 6}
    fitted = NormalisedNetwork(6, shape, **given, mean=channel + 0.5, std=channel + 0.2)
    made = (
        BranchedNetwork(shape, **given)(codes, labels),
        AuxiliaryClassifierNetwork(6, shape, **given)(codes, labels),
        fitted(codes * fitted.embedding(labels)),
    )
    for images in made:
        assert images.shape == (4, *shape)
        assert images.min() >= 0
        assert images.max() <= 1
        assert images.std() > 0


def test_the_published_sizes_change_nothing_and_others_are_said():
    published = {"num_classes": 10, "image_shape": (3, 32, 32)}
    assert BranchedNetwork(**published).changed == ()
    assert AuxiliaryClassifierNetwork(100, **published).changed == ()
    small = BranchedNetwork((1, 28, 28), num_classes=4, width=8)
    assert small.changed == (
        "the middle 28x28 of maps of 32x32",
        "1 colour channels in place of 3",
        "4 branches in place of 10",
        "8 channels in place of 128",
    )


def test_every_branch_makes_the_images_of_its_label_alone():
    network = BranchedNetwork((1, 8, 8), num_classes=3, width=4).eval()
    codes, labels = torch.rand(5, 4), torch.tensor([2, 0, 1, 0, 2])
    images = network(codes, labels)
    for i, label in enumerate(labels):
        alone = torch.sigmoid(network.trunk(network.branches[label](codes[i, None, :, None, None])))
        torch.testing.assert_close(images[i], alone[0])


def test_images_of_the_normalised_generator_are_denormalised_and_clipped():
    channel = torch.zeros(1, 2, 1, 1)
    network = NormalisedNetwork(
        5, (2, 8, 8), num_classes=3, width=4, mean=channel + 0.4, std=channel + 0.9
    )
    codes = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    normalised = network.eval().preactivation(codes)
    expected = np.clip(normalised.detach().double().numpy() * 0.9 + 0.4, 0, 1)
    np.testing.assert_allclose(network(codes).detach().numpy(), expected, atol=1e-6)
    maps = F.interpolate(network.start(network.dense(codes).reshape(6, 4, 2, 2)), (4, 4))
    maps = network.second(F.interpolate(network.first(maps), (8, 8)))
    convolution, tanh, norm = network.last
    torch.testing.assert_close(norm(tanh(convolution(maps))), normalised)
