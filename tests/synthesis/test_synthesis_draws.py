"""What is random about a batch: coefficients, labels, noise and shifts."""

import numpy as np
import pytest

from dfshield.errors import InputError
from dfshield.seeds import RngStream
from dfshield.synthesis import CoefficientSampler, draw_batch, draw_labels

MANY = 2000


def many(**options):
    """Return `MANY` successive draws as an array of (class, feature, tv)."""
    rng = np.random.default_rng(0)
    sampler = CoefficientSampler(**options)
    return np.array([sampler.draw(rng) for _ in range(MANY)])


def draw(batch=0, **changes):
    arguments = {
        "seed": 0,
        "stream": RngStream.SYNTHESIS,
        "batch": batch,
        "size": 6,
        "image_shape": (1, 4, 4),
        "num_classes": 10,
        "labels": "random",
        "coefficients": CoefficientSampler(),
        "jitter": 2,
        "iterations": 5,
    }
    return draw_batch(**(arguments | changes))


def same(a, b):
    return a.coefficients == b.coefficients and all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in ("labels", "noise", "shifts")
    )


def assert_uniform(values, low, high):
    assert low <= values.min() < low + 0.01 * (high - low)
    assert high - 0.01 * (high - low) < values.max() <= high
    assert values.mean() == pytest.approx((low + high) / 2, abs=0.03 * (high - low))
    # The standard deviation of U(0, 1): what tells it from other draws on the same range.
    assert values.std() == pytest.approx((high - low) / 12**0.5, rel=0.05)


def test_code_rule_draws_class_and_feature_and_leaves_tv():
    draws = many(rule="code")
    assert_uniform(draws[:, 0], 0, 1)
    assert_uniform(draws[:, 1], 0, 1)
    assert abs(np.corrcoef(draws[:, 0], draws[:, 1])[0, 1]) < 0.1
    assert set(draws[:, 2]) == {2.5e-5}


def test_paper_rule_draws_all_three_from_the_unit_interval():
    draws = many(rule="paper")
    for term in range(3):
        assert_uniform(draws[:, term], 0, 1)
    assert np.abs(np.corrcoef(draws.T) - np.eye(3)).max() < 0.1


def test_fixed_rule_gives_the_scales():
    assert set(map(tuple, many(rule="fixed"))) == {(1.0, 1.0, 2.5e-5)}
    scaled = many(rule="fixed", class_scale=0.5, feature_scale=10.0, tv_scale=0.1)
    assert set(map(tuple, scaled)) == {(0.5, 10.0, 0.1)}


def test_scales_multiply_the_draws():
    plain = many(rule="paper")
    scaled = many(rule="paper", class_scale=2.0, feature_scale=100.0, tv_scale=2.5e-5)
    np.testing.assert_allclose(scaled, plain * [2.0, 100.0, 2.5e-5], rtol=1e-12)


def test_shift_moves_the_drawn_terms_alone():
    draws = many(rule="code", shift=0.5)
    assert_uniform(draws[:, 0], 0.5, 1.5)
    assert_uniform(draws[:, 1], 0.5, 1.5)
    assert set(draws[:, 2]) == {2.5e-5}


def test_linear_shares_one_draw_between_class_and_feature():
    draws = many(rule="code", linear=True)
    assert_uniform(draws[:, 0], 0, 1)
    np.testing.assert_allclose(draws[:, 0] + draws[:, 1], 1.0, atol=1e-15)


@pytest.mark.parametrize(
    "options",
    [{"rule": "code"}, {"rule": "paper"}, {"rule": "fixed"}, {"linear": True}, {"shift": 1.0}],
)
def test_every_rule_consumes_three_numbers(options):
    rng, reference = np.random.default_rng(3), np.random.default_rng(3)
    CoefficientSampler(**options).draw(rng)
    reference.random(3)
    assert rng.random() == reference.random()


@pytest.mark.parametrize("name", ["class_scale", "feature_scale", "tv_scale", "shift"])
@pytest.mark.parametrize("value", [-0.1, float("inf"), float("nan")])
def test_a_scale_that_makes_no_sense_is_refused_by_name(name, value):
    with pytest.raises(InputError, match=name):
        CoefficientSampler(**{name: value})


@pytest.mark.parametrize("options", [{"linear": True}, {"shift": 0.5}])
def test_fixed_refuses_options_that_it_would_ignore(options):
    with pytest.raises(InputError, match="fixed"):
        CoefficientSampler(rule="fixed", **options)


def test_coefficients_differ_between_batches_and_depend_on_the_batch_alone():
    draws = [draw(batch).coefficients for batch in range(20)]
    assert len({c.class_prior for c in draws}) == len({c.feature for c in draws}) == 20
    assert draws == [draw(batch).coefficients for batch in range(20)]


def labels_of(rule, batches, *, size, num_classes):
    rng = np.random.default_rng(0)
    return [
        draw_labels(rule, rng, batch=batch, size=size, num_classes=num_classes) for batch in batches
    ]


@pytest.mark.parametrize("num_classes", [2, 10, 100])
def test_per_batch_labels_follow_the_global_batch_index(num_classes):
    batches = range(300)  # 60,000 images in batches of 200
    labels = labels_of("per_batch", batches, size=200, num_classes=num_classes)
    for batch, values in zip(batches, labels, strict=True):
        assert set(values) == {batch % num_classes}
    counts = np.bincount(np.concatenate(labels), minlength=num_classes)
    assert set(counts) == {60_000 // num_classes}


@pytest.mark.parametrize(("size", "num_classes"), [(20, 10), (7, 3), (3, 10)])
def test_balanced_labels_differ_by_one_at_most_within_a_batch_and_over_all(size, num_classes):
    labels = labels_of("balanced", range(num_classes), size=size, num_classes=num_classes)
    for values in labels:
        counts = np.bincount(values, minlength=num_classes)
        assert counts.max() - counts.min() <= 1
    assert set(np.bincount(np.concatenate(labels), minlength=num_classes)) == {size}


def test_balanced_labels_come_in_random_order():
    (labels,) = labels_of("balanced", [0], size=200, num_classes=10)
    assert (np.sort(labels) != labels).any()
    assert (labels != np.arange(200) % 10).any()


def test_random_labels_cover_the_range_and_are_not_balanced():
    (labels,) = labels_of("random", [0], size=10_000, num_classes=7)
    counts = np.bincount(labels)
    assert len(counts) == 7
    # Six standard deviations of a binomial count: and exactly equal counts would be no chance.
    assert np.abs(counts - 10_000 / 7).max() < 6 * (10_000 * 6 / 49) ** 0.5
    assert counts.max() > counts.min() + 1


def test_a_batch_depends_on_seed_stage_and_index_and_on_nothing_drawn_before():
    first = draw(5)
    for other in range(3):
        draw(other)
    assert same(draw(5), first)
    for changed in (draw(6), draw(5, seed=1), draw(5, stream=RngStream.HOLDOUT)):
        assert not np.array_equal(changed.noise, first.noise)
        assert not np.array_equal(changed.shifts, first.shifts)
        assert changed.coefficients != first.coefficients


def test_more_iterations_prolong_the_shifts_and_change_nothing_else():
    short, long = draw(iterations=5), draw(iterations=50)
    assert np.array_equal(long.shifts[:5], short.shifts)
    assert np.array_equal(long.noise, short.noise)
    assert np.array_equal(long.labels, short.labels)


def test_noise_is_standard_normal():
    noise = draw(size=200, image_shape=(3, 8, 8)).noise
    assert noise.shape == (200, 3, 8, 8)
    assert noise.mean() == pytest.approx(0, abs=0.03)
    assert noise.std() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("jitter", [0, 1, 2])
def test_shifts_reach_the_jitter_in_both_directions_and_on_both_axes(jitter):
    shifts = draw(jitter=jitter, iterations=500).shifts
    pairs = {tuple(shift) for shift in shifts.tolist()}
    reach = range(-jitter, jitter + 1)
    assert pairs == {(down, right) for down in reach for right in reach}
