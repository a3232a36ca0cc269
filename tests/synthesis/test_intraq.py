"""IntraQ: its losses from their formulas in float64, its crops, and the optimisation of a batch."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from formulas import softmax, statistics_of

from dfshield.errors import DfshieldError, InputError
from dfshield.seeds import RngStream, generator
from dfshield.synthesis import IntraQ, SquaredStatistics
from dfshield.synthesis.crops import Crops, cropped, draw_crops
from dfshield.synthesis.intraq_descent import class_means, marginal_distance, soft_inception_loss


def expected_margin(features, centres, lower, upper):
    norms = np.linalg.norm(features, axis=1) * np.linalg.norm(centres, axis=1)
    distances = 1 - (features * centres).sum(1) / norms
    return np.mean(np.maximum(lower - distances, 0) + np.maximum(distances - upper, 0))


def test_the_losses_are_those_of_the_formulas():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(7, 4)), rng.integers(4, size=7)
    targets = rng.uniform(0.9, 1, 7)
    found = soft_inception_loss(*map(torch.from_numpy, (logits, labels, targets)))
    expected = np.mean((softmax(logits)[range(7), labels] - targets) ** 2)
    assert found.item() == pytest.approx(expected, rel=1e-12)

    features, centres = rng.normal(size=(2, 7, 5))
    centres[:3] = features[:3] + 0.05 * centres[:3]  # nearer than the lower margin
    found = marginal_distance(
        torch.from_numpy(features), torch.from_numpy(centres), lower=0.05, upper=0.8
    )
    assert found.item() == pytest.approx(expected_margin(features, centres, 0.05, 0.8), rel=1e-12)
    inside = torch.tensor([[1.0, 0.5]]), torch.tensor([[1.0, 0.0]])  # at a distance of 0.11
    assert marginal_distance(*inside, lower=0.05, upper=0.8) == 0


def test_the_centre_of_a_class_is_the_mean_of_its_images():
    features = torch.arange(12.0).reshape(4, 3)
    means = class_means(features, torch.tensor([2, 0, 2, 2]), 4)
    assert torch.equal(means[0], features[1])
    assert torch.equal(means[2], features[[0, 2, 3]].mean(0))
    assert not means[[1, 3]].any()


def test_the_distance_of_statistics_is_squared_and_averaged(tiny_teacher):
    x = torch.randn(9, 2, 6, 5, generator=torch.Generator().manual_seed(0))
    statistics = SquaredStatistics(tiny_teacher.network)
    with statistics.recording():
        tiny_teacher.network(x)
        found = statistics.loss()
    assert found.item() == pytest.approx(statistics_of(tiny_teacher.network, x), rel=1e-5)


def test_crops_are_bilinear_samples_of_the_image():
    images = torch.rand(6, 2, 7, 5, generator=torch.Generator().manual_seed(0))
    crops = draw_crops(np.random.default_rng(3), 6, share=0.8, scale=0.3)
    assert crops.flipped.any()
    assert not crops.flipped.all()
    grid = np.empty((6, 7, 5, 2))
    for i in range(6):
        across = crops.left[i] + crops.width[i] * (np.arange(5) + 0.5) / 5
        down = crops.top[i] + crops.height[i] * (np.arange(7) + 0.5) / 7
        grid[i, :, :, 0] = 2 * (across[::-1] if crops.flipped[i] else across) - 1
        grid[i, :, :, 1] = 2 * down[:, None] - 1
    expected = F.grid_sample(
        images.double(), torch.from_numpy(grid), padding_mode="border", align_corners=False
    )
    torch.testing.assert_close(cropped(images, crops).double(), expected, atol=1e-6, rtol=0)


def test_boxes_lie_in_the_image_and_whole_images_stay_as_they_are():
    crops = draw_crops(np.random.default_rng(0), 2000, share=0.5, scale=0.5)
    whole = (crops.height == 1) & (crops.width == 1)
    assert whole.mean() == pytest.approx(0.5, abs=0.05)
    assert not crops.flipped[whole].any()
    assert crops.flipped[~whole].mean() == pytest.approx(0.5, abs=0.05)
    area = (crops.height * crops.width)[~whole]
    assert 0.5 - 1e-9 <= area.min() < 0.52
    for first, length in ((crops.top, crops.height), (crops.left, crops.width)):
        assert (first >= 0).all()
        assert (first + length <= 1 + 1e-12).all()
    zero, one = np.zeros(3), np.ones(3)
    images = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(cropped(images, Crops(zero, zero, one, one, zero > 0)), images)
    flipped = cropped(images, Crops(zero, zero, one, one, one > 0))
    assert torch.equal(flipped, images.flip(3))


def bound(teacher, **options):
    given = {"iterations": 4, "labels": "balanced", **options}
    return IntraQ(**given).bind(teacher)


def test_the_losses_of_the_first_iteration_are_those_of_the_noise(tiny_teacher):
    made = bound(tiny_teacher, iterations=1, crop_share=0).synthesize(seed=3, batch=2, size=6)
    draw = generator(3, RngStream.SYNTHESIS, 2)
    labels = draw.permutation((np.arange(6) + 12) % 3)
    assert made.labels.tolist() == labels.tolist()
    soft = draw.random(6) < 0.5
    targets = np.where(soft, draw.uniform(0.95, 1, 6), 1.0)
    assert np.array_equal(made.record["soft_target"], targets)
    noise = torch.from_numpy(draw.standard_normal((6, 2, 6, 5), dtype=np.float32))
    network = tiny_teacher.network
    with torch.no_grad():
        features = network[:-1](noise).double().numpy()
        logits = network(noise).double().numpy()
    centres = np.stack([features[labels == y].mean(0) for y in labels])
    expected = [
        np.mean((softmax(logits)[range(6), labels] - targets) ** 2),
        statistics_of(network, noise),
        expected_margin(features, centres, 0.05, 0.8),
    ]
    found = [made.record[f"loss_{name}"].item() for name in ("class", "feature", "margin", "total")]
    assert found == pytest.approx([*expected, sum(expected)], rel=1e-4)


@pytest.mark.parametrize("stop_after", [1, 5])
def test_a_pass_that_goes_on_from_a_state_equals_one_that_never_stopped(tiny_teacher, stop_after):
    intraq = bound(tiny_teacher, iterations=7, patience=1)
    arguments = {"seed": 0, "batches": [3, 4], "size": 5}
    whole = intraq.synthesize_batches(**arguments)
    kept = []

    def keep(done, state):
        if done == stop_after:
            kept.append(copy.deepcopy(state()))

    intraq.synthesize_batches(**arguments, on_iteration=keep)
    (state,) = kept
    done = []
    for _ in range(2):  # going on does not use the state up
        again = intraq.synthesize_batches(
            **arguments, resume=state, on_iteration=lambda n, _: done.append(n)
        )
        for one, other in zip(again, whole, strict=True):
            assert torch.equal(one.images, other.images)
            assert all(np.array_equal(one.record[k], other.record[k]) for k in IntraQ.columns)
    assert done == 2 * list(range(stop_after + 1, 8))


def test_a_batch_is_the_same_whatever_is_made_with_it_or_before(tiny_teacher):
    intraq = bound(tiny_teacher)
    alone = intraq.synthesize(seed=7, batch=3, size=4)
    together = intraq.synthesize_batches(seed=7, batches=[0, 3], size=4)
    assert torch.equal(together[1].images, alone.images)
    assert not torch.equal(together[0].images, alone.images)
    assert {k: v.dtype.name for k, v in alone.record.items()} == IntraQ.columns
    holdout = intraq.synthesize(seed=7, batch=3, size=6, stream=RngStream.HOLDOUT)
    assert torch.bincount(holdout.labels).tolist() == [2, 2, 2]


def test_the_learning_rate_falls_where_the_loss_does_not(tiny_teacher):
    states = []
    bound(tiny_teacher, iterations=60, learning_rate=10.0, patience=2).synthesize(
        seed=0, batch=0, size=4, on_iteration=lambda _, state: states.append(state())
    )
    rates = [state.batches[0]["adam"]["param_groups"][0]["lr"] for state in states]
    assert rates[0] == 10.0
    assert rates[-1] == pytest.approx(1e-4)  # where the decay ends


def test_the_teacher_recognises_what_it_was_asked_for(digits_teacher):
    made = IntraQ(iterations=60, crop_share=0.2, labels="balanced").bind(digits_teacher)
    batch = made.synthesize(seed=0, batch=0, size=40)
    with torch.no_grad():
        predicted = digits_teacher(batch.images).argmax(dim=1)
    assert (predicted == batch.labels).double().mean() > 0.8


def test_a_batch_that_diverges_is_named_with_its_iteration(tiny_teacher):
    tiny_teacher.network[1].running_mean.fill_(1e30)
    with pytest.raises(DfshieldError, match=r"batch 5, iteration 0: the synthesis diverged"):
        bound(tiny_teacher).synthesize(seed=0, batch=5, size=4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lower": 0.9}, "upper: 0.8 must be at least lower"),
        ({"upper": 2.5}, "upper: 2.5 must be a cosine distance"),
        ({"crop_scale": 1.5}, "crop_scale: 1.5 must be"),
        ({"soft_target": 2}, "soft_target: 2 must be"),
    ],
)
def test_options_that_cannot_be_are_refused(options, said):
    with pytest.raises(InputError, match=said):
        IntraQ(**options)


def test_a_layer_that_is_not_there_is_refused(tiny_teacher):
    with pytest.raises(InputError, match="layer: the model has no 'fc'"):
        bound(tiny_teacher, layer="fc").synthesize(seed=0, batch=0, size=2)
