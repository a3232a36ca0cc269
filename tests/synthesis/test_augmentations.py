"""The augmentations: pixel by pixel what their formulas say, and the labels that follow."""

import numpy as np
import pytest
import torch

from dfshield.errors import InputError
from dfshield.synthesis.augmentations import AUGMENTATIONS, CutMixSet, CutoutSet, MixupSet, Partners

N, SHAPE = 400, (2, 9, 6)
X, Y = np.random.default_rng(0).random((2, N, *SHAPE)).astype(np.float32)
LABELS, OTHERS = np.arange(N) % 7, np.arange(N) % 5
PARTNERS = Partners(torch.from_numpy(Y), torch.from_numpy(OTHERS), np.arange(N)[::-1].copy())


def made(augmentation, seed=0):
    partners = PARTNERS if augmentation.mixes else None
    draw = np.random.default_rng(seed)
    return augmentation(torch.from_numpy(X), torch.from_numpy(LABELS), draw=draw, partners=partners)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_what_is_made_depends_on_the_draws_alone_and_changes_nothing_given(name):
    before = X.copy(), Y.copy()
    one, same, other = (made(AUGMENTATIONS.make(name), seed) for seed in (0, 0, 1))
    assert torch.equal(one.images, same.images)
    assert not torch.equal(one.images, other.images)
    assert one.images.dtype == torch.float32
    assert {k: v.dtype.name for k, v in one.record.items()} == dict(AUGMENTATIONS[name].columns)
    assert one.images.min() >= 0
    assert one.images.max() <= 1
    assert np.array_equal(before[0], X)
    assert np.array_equal(before[1], Y)


@pytest.mark.parametrize("alpha", [1.0, 4.0])
def test_mixup_is_a_weighted_mean(alpha):
    batch = made(MixupSet(alpha=alpha))
    mix = batch.record["mix"]
    weight = mix[:, None, None, None]
    expected = weight * X.astype(np.float64) + (1 - weight) * Y
    np.testing.assert_allclose(batch.images.numpy(), expected, atol=1e-6)
    assert mix.mean() == pytest.approx(0.5, abs=0.05)
    assert mix.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.2)  # of Beta(a, a)
    assert np.array_equal(batch.labels.numpy(), np.where(mix >= 0.5, LABELS, OTHERS))
    assert np.array_equal(batch.record["partner"], PARTNERS.indices)


@pytest.mark.parametrize(("side", "reach"), [(4, 2), (5, 2), (None, 1)])
def test_cutout_is_black_in_a_square_around_its_centre(side, reach):
    batch = made(CutoutSet(side=side))  # None is half of 6, and 3 counts as 2
    rows, columns = batch.record["centre_row"], batch.record["centre_column"]
    expected = X.copy()
    for i in range(N):
        top, left = max(rows[i] - reach, 0), max(columns[i] - reach, 0)
        expected[i, :, top : rows[i] + reach, left : columns[i] + reach] = 0
    assert np.array_equal(batch.images.numpy(), expected)
    assert set(rows) == set(range(9))
    assert set(columns) == set(range(6))
    assert np.array_equal(batch.labels.numpy(), LABELS)


def test_cutmix_takes_a_box_of_the_partner():
    batch = made(CutMixSet(probability=0.7))
    images, mix = batch.images.numpy(), batch.record["mix"]
    taken = (images == Y).all(1)
    assert ((images == X).all(1) ^ taken).all()
    for i in range(N):
        rows, columns = taken[i].any(1), taken[i].any(0)
        assert np.array_equal(taken[i], np.outer(rows, columns))  # a box, and one piece
        for line in (rows, columns):
            assert np.abs(np.diff(np.flatnonzero(line))).max(initial=1) == 1
        assert mix[i] == pytest.approx(1 - taken[i].mean(), abs=1e-12)
    # The weights that are drawn are uniform; small boxes have no pixel, and borders cut some.
    assert 0.5 < taken.any((1, 2)).mean() < 0.7
    assert np.array_equal(batch.labels.numpy(), np.where(mix >= 0.5, LABELS, OTHERS))
    untouched = made(CutMixSet(probability=0))
    assert np.array_equal(untouched.images.numpy(), X)
    assert (untouched.record["mix"] == 1).all()


def test_the_boxes_of_cutmix_have_the_size_that_was_drawn():
    batch, draw = made(CutMixSet(probability=1.0), seed=5), np.random.default_rng(5)
    side = np.sqrt(1 - draw.beta(1, 1, N))
    draw.random(N)
    rows, columns = draw.integers(9, size=N), draw.integers(6, size=N)
    for i in range(N):
        high, wide = int(side[i] * 9) // 2, int(side[i] * 6) // 2
        expected = X[i].copy()
        box = np.s_[
            :,
            max(rows[i] - high, 0) : rows[i] + high,
            max(columns[i] - wide, 0) : columns[i] + wide,
        ]
        expected[box] = Y[i][box]
        assert np.array_equal(batch.images[i].numpy(), expected)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: MixupSet(alpha=0), "alpha: 0 must be"),
        (lambda: CutMixSet(probability=1.5), "probability: 1.5 must be"),
        (lambda: CutoutSet(side=1), "side: 1 must be"),
        (
            lambda: MixupSet()(
                torch.from_numpy(X), torch.from_numpy(LABELS), draw=np.random.default_rng()
            ),
            "partners: mixup mixes every image with another",
        ),
    ],
)
def test_what_cannot_be_is_refused(call, said):
    with pytest.raises(InputError, match=said):
        call()
