from dataclasses import replace
from math import nan

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from dfshield.report.sweep import pareto_front, proxy_agreement, recommend, settings_of

TAU = "training.gradrefine.tau"
K = "training.gradrefine.num_batches"


def agreements(pgd, clean=0.9, **more):
    return {"holdout": {"agreement_clean": clean, "agreement_pgd": pgd}, **more}


def chosen(make_sweep, figures, **changes):
    """A sweep over tau whose trials have the given fields, in order."""
    parameters = {TAU: [n / 10 for n in range(len(figures))]}
    return make_sweep(parameters, lambda v, s: figures[round(10 * v[TAU])], **changes)


def test_front_is_that_of_brute_force():
    rng = np.random.default_rng(0)
    for _ in range(50):
        points = [tuple(p) for p in rng.integers(0, 6, (rng.integers(1, 14), 2)).astype(float)]
        expected = {
            i
            for i, (x, y) in enumerate(points)
            if not any(a >= x and b >= y and (a > x or b > y) for a, b in points)
        }
        assert set(pareto_front(points)) == expected
    assert pareto_front([]) == []


def test_the_highest_mean_over_seeds_wins_not_the_highest_seed(make_sweep):
    figures = {(0.0, 0): 0.9, (0.0, 1): 0.1, (0.5, 0): 0.6, (0.5, 1): 0.64}
    data = make_sweep({TAU: [0.0, 0.5]}, lambda v, s: agreements(figures[v[TAU], s]), seeds=(0, 1))
    best = recommend(data)
    assert best.values == {TAU: 0.5}
    assert best.score == pytest.approx(0.62)
    assert best.spread == pytest.approx(0.02 * 2**0.5)
    assert best.margin == pytest.approx(0.12)
    assert best.num_seeds == 2
    assert "the mean over 2 seeds" in best.why
    assert "12.0 points below, which is more than" in best.why
    assert "2.8 points" in best.why
    assert "real test images" not in best.why


@pytest.mark.parametrize(
    "worse",
    [
        agreements(0.9, collapsed=True),
        agreements(0.9, state="stopped"),
        agreements(0.9, state="failed"),
        agreements(nan),
        {"holdout": {"agreement_clean": 0.9}},
        agreements(0.3),
    ],
)
def test_what_cannot_be_recommended_is_not(make_sweep, worse):
    assert recommend(chosen(make_sweep, [worse, agreements(0.4)])).values == {TAU: 0.1}


def test_a_setting_with_an_unfinished_or_collapsed_seed_is_not_recommended(make_sweep):
    for bad in ({"state": "running"}, {"collapsed": True}):
        data = make_sweep(
            {TAU: [0.0, 0.5]},
            lambda v, s, bad=bad: agreements(0.9 - v[TAU]) | (bad if v[TAU] == 0 and s else {}),
            seeds=(0, 1),
        )
        assert recommend(data).values == {TAU: 0.5}


def test_ties_go_to_clean_then_to_the_earlier(make_sweep):
    tied = [agreements(0.5, 0.7), agreements(0.5, 0.8), agreements(0.5, 0.8), agreements(0.2)]
    assert recommend(chosen(make_sweep, tied)).values == {TAU: 0.1}
    # Choosing without real images never looks at them, not even to break a tie.
    real = [tied[0] | {"test": {"clean": 0.9, "AutoAttack": 0.3}}, *tied[1:]]
    assert recommend(chosen(make_sweep, real)).values == {TAU: 0.1}


def test_choosing_by_real_images_is_said(make_sweep):
    figures = [
        agreements(0.9, test={"clean": 0.8, "AutoAttack": 0.2}),
        agreements(0.1, test={"clean": 0.7, "AutoAttack": 0.3}, floor=0.4),
    ]
    data = chosen(make_sweep, figures, select_on="test", metric="AutoAttack")
    best = recommend(data)
    assert best.values == {TAU: 0.1}
    assert best.on_front
    assert "used real test images, so the figure is optimistic" in best.why
    assert "below the floor of a constant answer (AutoAttack)" in best.why
    assert "with one seed it is not known" in best.why


def test_a_setting_off_the_front_is_said_to_be(make_sweep):
    figures = [
        agreements(0.9, test={"clean": 0.5, "AutoAttack": 0.2}),
        agreements(0.1, test={"clean": 0.7, "AutoAttack": 0.3}),
    ]
    best = recommend(chosen(make_sweep, figures))
    assert best.values == {TAU: 0.0}
    assert best.on_front is False
    assert "Another setting is at least as good in both" in best.why


def test_sizes_of_perturbation_are_not_compared_in_silence(make_sweep):
    data = make_sweep({"threat.eps": ["2/255", "4/255"]}, lambda v, s: agreements(0.5))
    assert "figures at different ε do not compare" in recommend(data).why


def test_rank_correlations_are_scipy_s(make_sweep):
    proxy = [0.30, 0.42, 0.35, 0.50, 0.47]
    real = [0.10, 0.22, 0.21, 0.20, 0.30]
    figures = [
        agreements(p, test={"clean": 0.8, "PGD-20": 0.6, "AutoAttack": r})
        for p, r in zip(proxy, real, strict=True)
    ]
    found = proxy_agreement(chosen(make_sweep, figures))
    # By hand: ranks 1 3 2 5 4 against 1 4 3 2 5, sum of squared differences 12.
    assert found.spearman == pytest.approx(1 - 6 * 12 / (5 * 24))
    assert found.spearman == pytest.approx(spearmanr(proxy, real).statistic)
    assert found.kendall == pytest.approx(kendalltau(proxy, real).statistic)
    assert found.num_settings == 5
    assert found.real.key == "AutoAttack"
    assert found.lost == pytest.approx(0.10)


@pytest.mark.parametrize(
    ("proxy", "real"),
    [
        ([0.1, 0.2], [0.1, 0.2]),
        ([0.1, 0.1, 0.1], [0.1, 0.2, 0.3]),
        ([0.1, 0.2, 0.3], [0.1] * 3),
        ([0.1, 0.2, nan], [0.1, 0.2, 0.3]),
    ],
)
def test_no_rank_correlation_where_there_is_none(make_sweep, proxy, real):
    figures = [
        agreements(p, test={"clean": 0.8, "AutoAttack": r})
        for p, r in zip(proxy, real, strict=True)
    ]
    assert proxy_agreement(chosen(make_sweep, figures)) is None


def test_without_real_images_there_is_nothing_to_rank_against(make_sweep):
    assert proxy_agreement(chosen(make_sweep, [agreements(n / 10) for n in range(5)])) is None


def test_settings_pool_equal_values_in_any_spelling(make_sweep):
    data = make_sweep({K: [1, 20]}, lambda v, s: agreements(0.5), seeds=(0, 1))
    trials = [replace(t, values={K: float(t.values[K])}) if t.seed else t for t in data.trials]
    pooled = settings_of(replace(data, trials=tuple(trials)))
    assert [tuple(t.seed for t in s.trials) for s in pooled] == [(0, 1), (0, 1)]


def test_nothing_is_recommended_from_nothing(make_sweep):
    assert recommend(make_sweep({TAU: [0.5]}, lambda v, s: {"state": "failed"})) is None
    assert recommend(replace(make_sweep({TAU: [0.5]}, lambda v, s: {}), trials=())) is None
