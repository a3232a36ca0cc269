"""Metrics against real images: against float64 computations from their definitions, and by sets."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, jensenshannon
from scipy.stats import norm
from sklearn.cluster import KMeans

from dfshield.diversity.reference import REFERENCE, Bins, Neighbours, distances
from dfshield.errors import InputError
from dfshield.seeds import RngStream, derived_seed


def drawn(seed, n, d=6, *, scale=1.0, shift=0.0):
    points = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    return scale * points + shift


def by_definition(real, fake, k):
    """Recall and coverage of whole distance matrices."""
    x, y = real.double().numpy(), fake.double().numpy()
    of_real = np.sort(cdist(x, x), axis=1)[:, k]  # place 0 is the point itself
    of_fake = np.sort(cdist(y, y), axis=1)[:, k]
    between = cdist(x, y)
    return {
        "recall": (between < of_fake[None, :]).any(axis=1).mean(),
        "coverage": (between < of_real[:, None]).any(axis=1).mean(),
    }


def bins_by_definition(real, fake, num_bins, significance, seed):
    """NDB and JSD with scikit-learn's own assignment, scipy's normal and Jensen-Shannon."""
    state = derived_seed(seed, RngStream.DIVERSITY)
    means = KMeans(num_bins, n_init=1, max_iter=100, random_state=state).fit(real.numpy())
    of_real = np.bincount(means.predict(real.numpy()), minlength=num_bins)
    of_fake = np.bincount(means.predict(fake.numpy()), minlength=num_bins)
    n, m = len(real), len(fake)
    different = 0
    for a, b in zip(of_real, of_fake, strict=True):
        pooled = (a + b) / (n + m)
        error = math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
        z = (a / n - b / m) / error if error else 0.0
        different += 2 * norm.sf(abs(z)) < significance
    return {"ndb": different, "jsd": jensenshannon(of_real, of_fake) ** 2}


@pytest.mark.parametrize("k", [1, 5, 11])
@pytest.mark.parametrize("scale", [0.4, 1.0, 2.5])
def test_recall_and_coverage_equal_their_definitions(k, scale):
    real, fake = drawn(0, 301), drawn(1, 257, scale=scale, shift=100.0) - 100.0
    expected = by_definition(real, fake, k)
    assert Neighbours(k=k).fit(real)(fake) == pytest.approx(expected, abs=1e-12)
    assert 0 < expected["coverage"] < 1 or scale == 1.0


@pytest.mark.parametrize(("num_bins", "significance"), [(20, 0.05), (7, 0.3), (60, 0.01)])
def test_ndb_and_jsd_equal_their_definitions(num_bins, significance):
    real, fake = drawn(2, 400), drawn(3, 333, scale=0.8, shift=0.2)
    expected = bins_by_definition(real, fake, num_bins, significance, seed=4)
    metric = Bins(num_bins=num_bins, significance=significance)
    assert metric.fit(real, seed=4)(fake) == pytest.approx(expected, abs=1e-12)
    assert expected["ndb"] > 0


def test_a_set_is_no_other_than_itself():
    real = drawn(5, 250)
    order = torch.randperm(250, generator=torch.Generator().manual_seed(6))
    for fake in (real, real[order]):
        assert Neighbours().fit(real)(fake) == {"recall": 1.0, "coverage": 1.0}
        assert Bins(num_bins=20).fit(real)(fake) == {"ndb": 0.0, "jsd": 0.0}


def test_sets_far_apart_have_nothing_in_common():
    real, fake = drawn(7, 120), drawn(8, 110, shift=1000.0)
    assert Neighbours().fit(real)(fake) == {"recall": 0.0, "coverage": 0.0}
    found = Bins(num_bins=12).fit(real)(fake)
    assert found["ndb"] >= 11
    # All of the set is in one bin of share p: ln 2 but for what that bin has in common.
    assert 0.5 < found["jsd"] < math.log(2)


def test_the_ball_of_a_repeated_image_is_empty():
    real, fake = drawn(9, 40), drawn(10, 1).repeat(30, 1)
    fake[0] = real[0]
    assert Neighbours(k=5).fit(real)(fake)["recall"] == by_definition(real, fake, 5)["recall"]
    same = torch.ones(30, 6) / 3
    assert Neighbours(k=5).fit(same)(same) == {"recall": 0.0, "coverage": 0.0}


def test_distances_that_are_equal_are_not_less():
    """On a grid nearly all comparisons are ties, though products round: its mean is no multiple."""
    axis = torch.arange(6.0) / 8
    grid = torch.cartesian_prod(axis, axis, axis)
    for k in (1, 3, 6):
        shifted = grid[torch.randperm(len(grid), generator=torch.Generator().manual_seed(k))][:90]
        found = Neighbours(k=k).fit(grid)(shifted)
        assert found == pytest.approx(by_definition(grid, shifted, k), abs=1e-12)


def mixture(seed, weights, n=2000):
    """Draws from Gaussians far apart, of these weights."""
    rng = np.random.default_rng(seed)
    modes = np.repeat(np.arange(len(weights)), np.round(n * np.array(weights)).astype(int))
    centres = 30 * np.random.default_rng(0).standard_normal((len(weights), 5))
    return torch.from_numpy(centres[modes] + rng.standard_normal((len(modes), 5))).float()


def test_dropped_modes_raise_ndb_and_jsd_and_lower_recall_and_coverage():
    modes = 10
    real = mixture(1, [1 / modes] * modes)
    bins, neighbours = Bins(num_bins=40).fit(real), Neighbours().fit(real)
    found = []
    for dropped in range(modes):
        left = modes - dropped
        fake = mixture(2, [1 / left] * left + [0.0] * dropped)
        found.append({**bins(fake), **neighbours(fake)})
    for key, direction in (("ndb", 1), ("jsd", 1), ("recall", -1), ("coverage", -1)):
        steps = np.diff([direction * each[key] for each in found])
        # Once nearly all bins differ there is nothing for NDB to grow by.
        assert (steps[: modes // 2] > 0).all(), key
        assert (steps >= 0).all(), key
    assert found[0]["ndb"] < 6
    assert found[-1]["ndb"] > 35
    assert found[5]["recall"] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("block", [(1, 1), (7, 3), (16, 1000)])
@pytest.mark.parametrize("name", list(REFERENCE))
def test_the_size_of_a_block_does_not_show(name, block, monkeypatch):
    real, fake = drawn(11, 40, shift=3.0), drawn(12, 37, scale=0.7, shift=3.0)
    options = {"num_bins": 10} if name == "bins" else {}
    whole = REFERENCE.make(name, **options).fit(real)(fake)
    monkeypatch.setattr(distances, "ROWS", block[0])
    monkeypatch.setattr(distances, "COLUMNS", block[1])
    assert REFERENCE.make(name, **options).fit(real)(fake) == whole


@pytest.mark.parametrize("name", list(REFERENCE))
def test_what_is_measured_is_described_and_its_progress_told(name):
    metric = REFERENCE.make(name, **({"num_bins": 5} if name == "bins" else {}))
    told = []
    measure = metric.fit(drawn(13, 50), advance=told.append)
    assert sum(told) == 50
    assert measure(drawn(14, 40)).keys() == metric.scores.keys()
    assert sum(told) == {"neighbours": 50 + 40 + 50, "bins": 50 + 40}[name]
    assert all(score.description and score.title for score in metric.scores.values())


@pytest.mark.parametrize(
    ("metric", "real", "fake", "said"),
    [
        (Neighbours(), drawn(0, 5), drawn(0, 9), "real: 5 images, but neighbours needs at least 6"),
        (Neighbours(), drawn(0, 9), drawn(0, 5), "features: 5 images, but neighbours needs at"),
        (Bins(), drawn(0, 99), drawn(0, 9), "real: 99 images, but bins needs at least 100"),
        (Bins(num_bins=3), drawn(0, 9), drawn(0, 0), "features: no images, but bins needs at"),
        (Neighbours(), drawn(0, 9), drawn(0, 9, d=4), "features: 4 numbers an image, but the real"),
        (Neighbours(), drawn(0, 9), drawn(0, 9) / 0, "features: there are NaN or infinite"),
        (Bins(num_bins=3), torch.ones(9, 6), drawn(0, 9), "real: too many equal features for 3"),
    ],
)
def test_sets_that_cannot_be_measured_are_refused_in_one_line(metric, real, fake, said):
    with pytest.raises(InputError) as caught:
        metric.fit(real)(fake)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("neighbours", {"k": 0}, "k: 0 must be a whole number of at least 1"),
        ("bins", {"num_bins": 1}, "num_bins: 1 must be a whole number of at least 2"),
        ("bins", {"significance": 1.5}, "significance: 1.5 must be a number above 0 and at most 1"),
        ("bin", {}, "name: metric against real images 'bin' is unknown: did you mean 'bins'?"),
    ],
)
def test_wrong_options_are_named(name, options, said):
    with pytest.raises(InputError) as caught:
        REFERENCE.make(name, **options)
    assert str(caught.value) == said
