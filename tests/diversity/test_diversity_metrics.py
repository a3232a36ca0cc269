"""Diversity metrics against their definitions in float64, in any order, in chunks or not."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from scipy.special import softmax
from scipy.stats import entropy

from dfshield.diversity import (
    DIVERSITY,
    FeatureDistances,
    NearDuplicates,
    PredictionEntropy,
    feature_distances,
    near_duplicates,
)
from dfshield.errors import InputError


def draw(seed):
    return torch.Generator().manual_seed(seed)


def of(images, labels, *, classes=10):
    """A set whose logits do not matter."""
    return {
        "images": images,
        "labels": torch.as_tensor(labels),
        "logits": torch.zeros(len(images), classes),
    }


@pytest.fixture
def repeating():
    """Sixty noise images of three labels; a third of them is another one with a little noise."""
    images = torch.rand(60, 1, 5, 6, generator=draw(0))
    copies = torch.arange(40, 60)
    sizes = torch.linspace(0.0, 0.12, 20).view(-1, 1, 1, 1)
    noise = sizes * torch.randn(20, 1, 5, 6, generator=draw(1))
    images[copies] = (images[copies - 20] + noise).clamp(0, 1)
    labels = torch.randint(3, (60,), generator=draw(2))
    labels[copies] = labels[copies - 20]
    labels[copies[::5]] = (labels[copies[::5]] + 1) % 3  # the same image under another label
    return of(images, labels)


def share_by_definition(images, labels, threshold):
    pixels = images.flatten(1).numpy().astype(np.float64)
    close = 0
    for i, label in enumerate(labels.tolist()):
        others = [j for j, other in enumerate(labels.tolist()) if j != i and other == label]
        distances = [math.sqrt(np.mean((pixels[i] - pixels[j]) ** 2)) for j in others]
        close += min(distances, default=math.inf) < threshold
    return close / len(labels)


@pytest.mark.parametrize("threshold", [0.01, 0.05, 0.1, 0.3])
def test_near_duplicates_equal_their_definition(repeating, threshold):
    expected = share_by_definition(repeating["images"], repeating["labels"], threshold)
    assert NearDuplicates(threshold=threshold)(**repeating) == {"near_duplicates": expected}
    assert expected > 0


def test_near_duplicates_grow_with_the_threshold(repeating):
    found = [
        NearDuplicates(threshold=threshold)(**repeating)["near_duplicates"]
        for threshold in (0.001, 0.02, 0.06, 0.3, 1.0)
    ]
    assert found == sorted(found)
    assert len(set(found)) > 3
    assert found[-1] == 1.0


@pytest.mark.parametrize("chunk", [1, 7, 60])
def test_chunks_do_not_show(repeating, chunk, monkeypatch):
    whole = NearDuplicates()(**repeating)
    monkeypatch.setattr(near_duplicates, "CHUNK", chunk)
    assert NearDuplicates()(**repeating) == whole


def test_equal_images_are_near_duplicates_and_only_within_a_label():
    image = torch.rand(1, 3, 8, 8, generator=draw(3))
    pair = image.repeat(2, 1, 1, 1)
    smallest = NearDuplicates(threshold=1e-12)
    assert smallest(**of(pair, [4, 4])) == {"near_duplicates": 1.0}
    assert smallest(**of(pair, [4, 5])) == {"near_duplicates": 0.0}
    assert NearDuplicates(threshold=1.0)(**of(image, [0])) == {"near_duplicates": 0.0}


def test_the_threshold_itself_is_not_closer():
    images = torch.tensor([0.0, 0.25]).view(2, 1, 1, 1).expand(2, 1, 4, 4)
    assert NearDuplicates(threshold=0.25)(**of(images, [0, 0])) == {"near_duplicates": 0.0}
    assert NearDuplicates(threshold=0.2500001)(**of(images, [0, 0])) == {"near_duplicates": 1.0}


@pytest.mark.parametrize("scale", [0.1, 3.0, 500.0])
def test_entropies_equal_a_float64_formula(scale):
    logits = scale * torch.randn(50, 7, generator=draw(4))
    p = softmax(logits.double().numpy(), axis=1)
    found = PredictionEntropy()(labels=torch.zeros(50, dtype=torch.int64), logits=logits)
    assert found["entropy_of_mean"] == pytest.approx(entropy(p.mean(axis=0)), rel=1e-12)
    assert found["mean_entropy"] == pytest.approx(entropy(p, axis=1).mean(), rel=1e-12, abs=1e-12)


def test_entropies_of_even_single_and_uncertain_sets():
    labels = torch.arange(40) % 4
    certain = torch.eye(4)[labels] * 1e4
    even = PredictionEntropy()(labels=labels, logits=certain)
    assert even == pytest.approx({"entropy_of_mean": math.log(4), "mean_entropy": 0.0})
    single = PredictionEntropy()(labels=labels, logits=certain[:1].repeat(40, 1))
    assert single == pytest.approx({"entropy_of_mean": 0.0, "mean_entropy": 0.0})
    unsure = PredictionEntropy()(labels=labels, logits=torch.zeros(40, 4))
    assert unsure == pytest.approx(dict.fromkeys(even, math.log(4)))


@pytest.mark.parametrize("chunk", [256, 3])
def test_feature_distances_equal_their_definition(repeating, chunk, monkeypatch):
    monkeypatch.setattr(feature_distances, "CHUNK", chunk)
    features = torch.randn(60, 8, generator=draw(8)) + 50.0
    repeating["labels"][0] = 7  # a class of one image has no distance
    labels = repeating["labels"].numpy()
    means = [pdist(features.double().numpy()[labels == label]).mean() for label in range(3)]
    found = FeatureDistances()(**repeating, features=features)
    expected = {"mean_distance": np.mean(means), "least_distance": min(means)}
    assert found == pytest.approx(expected, rel=1e-12)


def test_equal_features_are_at_no_distance_and_none_without_a_pair():
    same = of(torch.zeros(6, 1, 2, 2), [0, 0, 0, 1, 1, 1])
    nothing = {"mean_distance": 0.0, "least_distance": 0.0}
    assert FeatureDistances()(**same, features=torch.ones(6, 3) / 3) == nothing
    alone = of(torch.zeros(2, 1, 2, 2), [0, 1])
    assert FeatureDistances()(**alone, features=torch.eye(2)) == nothing
    with pytest.raises(InputError, match="features: feature-distances looks at the teacher's"):
        FeatureDistances()(**alone)


@pytest.mark.parametrize("name", list(DIVERSITY))
def test_the_order_of_the_images_does_not_matter(name, repeating):
    repeating["logits"] = torch.randn(60, 10, generator=draw(5))
    repeating["features"] = torch.randn(60, 8, generator=draw(8))
    order = torch.randperm(60, generator=draw(6))
    shuffled = {key: column[order] for key, column in repeating.items()}
    metric = DIVERSITY.make(name)
    assert metric(**shuffled) == pytest.approx(metric(**repeating), rel=1e-12)


@pytest.mark.parametrize("name", list(DIVERSITY))
def test_the_first_images_alone_count_where_there_are_more(name, repeating):
    repeating["logits"] = torch.randn(60, 10, generator=draw(7))
    repeating["features"] = torch.randn(60, 8, generator=draw(8))
    metric = DIVERSITY.make(name, num_images=25)
    first = {key: column[:25] for key, column in repeating.items()}
    assert metric(**repeating) == metric(**first) == DIVERSITY.make(name)(**first)


@pytest.mark.parametrize("name", list(DIVERSITY))
def test_what_is_measured_is_described(name, repeating):
    metric = DIVERSITY.make(name)
    found = metric(**repeating, features=torch.randn(60, 8, generator=draw(8)))
    assert found.keys() == metric.quantities.keys()
    for quantity in metric.quantities.values():
        assert quantity.unit in ("nats", "share", "")
        assert quantity.title
        assert quantity.description


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("near-duplicates", {"threshold": 0.0}, "threshold: 0.0 must be a number above 0"),
        ("near-duplicates", {"threshold": 2.0}, "threshold: 2.0 must be a number above 0 and at"),
        ("near-duplicates", {"treshold": 0.1}, "treshold: is no option of near-duplicates: did"),
        ("prediction-entropy", {"num_images": 0}, "num_images: 0 must be a whole number of at"),
        ("prediction-entropie", {}, "name: diversity metric 'prediction-entropie' is unknown: did"),
    ],
)
def test_wrong_options_are_named(name, options, said):
    with pytest.raises(InputError) as caught:
        DIVERSITY.make(name, **options)
    assert str(caught.value).startswith(said)
