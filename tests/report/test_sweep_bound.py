"""Recommending under a bound on the clean figure: who counts, and that every output shows it."""

import json

import pytest

from dfshield.report.sweep import (
    answer_of,
    recommend,
    render_sweep_page,
    settings_of,
    sweep_figures,
)

TAU = "training.gradrefine.tau"
MEASURE = "agreement_ce_mixtures"
TITLES = {MEASURE: "Agreement, all in one", "agreement_clean": "Agreement, clean"}


def students(make_sweep, pairs, *, keep_clean, **changes):
    """A sweep over tau whose settings have these clean and robust figures on the hold-out."""
    parameters = {TAU: [n / 10 for n in range(len(pairs))]}

    def measured(values, seed):
        clean, robust = pairs[round(10 * values[TAU])][:2]
        holdout = {"agreement_clean": clean, "agreement_pgd": 0.5, MEASURE: robust}
        more = pairs[round(10 * values[TAU])][2:]
        test = {"clean": more[0], "AutoAttack": more[1]} if more else {}
        return {"holdout": holdout, "test": test, "collapsed": clean == 0}

    changes = {"metric": MEASURE, "measure": MEASURE, "titles": TITLES, **changes}
    return make_sweep(parameters, measured, keep_clean=keep_clean, **changes)


PAIRS = [(1.0, 0.2), (0.96, 0.3), (0.94, 0.5), (0.5, 0.9)]


@pytest.mark.parametrize(
    ("keep_clean", "chosen", "below"), [(None, 3, 0), (0.5, 3, 0), (0.95, 1, 2), (1.0, 0, 3)]
)
def test_the_most_robust_of_those_that_keep_their_clean_agreement(
    make_sweep, keep_clean, chosen, below
):
    data = students(make_sweep, PAIRS, keep_clean=keep_clean)
    best = recommend(data)
    assert best.values == {TAU: chosen / 10}
    assert best.score == PAIRS[chosen][1]
    assert sum(setting.below_bound for setting in settings_of(data)) == below
    said = f"Only settings count whose agreement, clean is at least {100 * (keep_clean or 0):.1f}"
    assert (said in best.why) == (keep_clean is not None)


def test_the_best_clean_figure_is_that_of_a_setting_that_could_be_recommended(make_sweep):
    """A collapsed student has none, and a setting that lacks a seed is not complete."""
    data = students(make_sweep, [(0.0, 0.99), (0.8, 0.4), (0.7, 0.6)], keep_clean=0.9)
    assert recommend(data).values == {TAU: 0.1}
    failed = students(make_sweep, [(1.0, 0.1), (0.8, 0.4), (0.7, 0.6)], keep_clean=0.85)
    first, *others = failed.trials
    trials = (type(first)(**{**vars(first), "state": "stopped"}), *others)
    assert recommend(type(failed)(**{**vars(failed), "trials": trials})).values == {TAU: 0.2}


def test_with_test_images_chosen_by_the_bound_is_on_their_clean_accuracy(make_sweep):
    pairs = [(0.5, 0.2, 1.0, 0.2), (1.0, 0.3, 0.5, 0.6)]
    by_test = {"select_on": "test", "metric": "AutoAttack", "keep_clean": 0.9}
    assert recommend(students(make_sweep, pairs, **by_test)).values == {TAU: 0.0}
    assert recommend(students(make_sweep, pairs, keep_clean=0.9)).values == {TAU: 0.1}


def test_pictures_and_page_mark_who_is_below_and_show_both_fronts(make_sweep, only_svg):
    pairs = [(*pair, 0.9 - pair[1] / 2, pair[1] / 2) for pair in PAIRS]
    data = students(make_sweep, pairs, keep_clean=0.95)
    figures = sweep_figures(data)
    assert {"curves-tau", "pareto", "pareto-holdout"} <= set(figures)
    plain = sweep_figures(students(make_sweep, pairs, keep_clean=None))
    for name in ("curves-tau", "pareto-holdout"):
        assert figures[name].svg != plain[name].svg, name
    text = figures["pareto-holdout"].svg.decode()
    assert "Dashed: 95.0" in text
    assert "settings left of it are not recommended" in text
    page = render_sweep_page(data, figures)
    assert page.count("▽ clean below the bound") == 2
    assert "on the front without real images" in page
    assert "Agreement, all in one" in page
    assert "Clean against robust, without real images" in page


def test_the_heat_map_marks_them(make_sweep, only_svg):
    parameters = {TAU: [0, 0.5], "training.gradrefine.num_batches": [2, 4]}

    def measured(values, seed):
        low = values[TAU] == 0.5
        return {"holdout": {"agreement_clean": 0.5 if low else 0.9, "agreement_pgd": 0.4}}

    figures = sweep_figures(make_sweep(parameters, measured, keep_clean=0.9))
    assert "▽ clean below the bound" in figures["heatmap-tau-num-batches"].svg.decode()


def test_json_has_the_setting_its_bound_and_the_fronts(make_sweep):
    pairs = [(*pair, 0.9, 0.3) for pair in PAIRS]
    found = json.loads(json.dumps(answer_of(students(make_sweep, pairs, keep_clean=0.95))))
    assert found["recommended"]["values"] == {TAU: 0.1}
    assert found["clean_bound"]["least"] == pytest.approx(0.95)
    assert found["clean_bound"]["metric"] == "agreement_clean"
    assert found["clean_bound"]["below"] == [{TAU: 0.2}, {TAU: 0.3}]
    assert found["fronts"]["holdout"] == [{TAU: n / 10} for n in range(4)]
    assert len(found["fronts"]["test"]) == 4
    none = answer_of(students(make_sweep, PAIRS, keep_clean=None))
    assert none["clean_bound"] is None
    assert set(none["fronts"]) == {"holdout"}
