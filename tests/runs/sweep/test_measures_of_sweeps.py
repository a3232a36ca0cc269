"""By which measure the trials of a sweep are compared, and which setting is ahead."""

from pathlib import Path

import pytest

from dfshield.config import load_config
from dfshield.errors import InputError
from dfshield.runs.sweep import make_trial, measure_of, metric_of, metrics_of_search, scores_of
from dfshield.runs.sweep.metrics import BestSoFar, check_metric
from dfshield.runs.sweep.plan import listed_trials
from dfshield.runs.sweep.record import TrialRecord, standing_of

EXAMPLE = Path(__file__).parents[3] / "examples" / "sweeps" / "digits-lambda.yaml"
LAMBDA1, LAMBDA2 = "training.objective.lambda1", "training.objective.lambda2"
MEASURE = "agreement_ce_mixtures"


def sweep(*overrides, measure=MEASURE):
    return load_config(EXAMPLE, ["sweep.metric=null", f"training.measure={measure}", *overrides])


def record(number, *, clean=0.9, pgd=0.5, state="done", collapsed=False, test=None, **scores):
    return TrialRecord(
        name=f"t{number}",
        values={LAMBDA1: number, LAMBDA2: 1},
        seed=0,
        state=state,
        started="2026-01-01T00:00:00+00:00",
        holdout={"agreement_clean": clean, "agreement_pgd": pgd, **scores},
        test=test or {},
        collapsed=collapsed,
    )


def test_a_sweep_is_judged_by_the_measure_that_all_finished_students_have():
    config = sweep()
    old, new = record(0), record(1, **{MEASURE: 0.3})
    assert metric_of(config, []) == MEASURE
    assert metric_of(config, [new]) == MEASURE
    assert metric_of(config, [old]) == "agreement_pgd"
    assert metric_of(config, [old, new]) == "agreement_pgd"
    assert metric_of(config, [new, record(2, state="stopped")]) == MEASURE
    assert metric_of(sweep("sweep.metric=agreement_clean"), [old]) == "agreement_clean"
    assert metric_of(sweep("sweep.select_on=test"), [old, new]) == "AutoAttack"


def test_a_finished_sweep_of_an_earlier_release_has_the_best_that_it_had():
    old = [record(0, pgd=0.4), record(1, pgd=0.6), record(2, pgd=0.9, collapsed=True)]
    assert BestSoFar(sweep(), old).best() == ({LAMBDA1: 1, LAMBDA2: 1}, 0.6)
    assert BestSoFar(sweep(), old).summary().startswith("best agreement_pgd 60.0%: lambda1=1")


def test_the_best_so_far_keeps_its_clean_figure_where_that_is_asked_for():
    records = [
        record(0, clean=1.0, **{MEASURE: 0.2}),
        record(1, clean=0.95, **{MEASURE: 0.3}),
        record(2, clean=0.7, **{MEASURE: 0.6}),
        record(3, clean=0.1, collapsed=True, **{MEASURE: 0.9}),
    ]
    assert BestSoFar(sweep(), records).best()[0][LAMBDA1] == 2
    bounded = sweep("sweep.recommend.keep_clean=0.95")
    assert BestSoFar(bounded, records).best() == ({LAMBDA1: 1, LAMBDA2: 1}, 0.3)
    tested = [record(n, test={"clean": c, "AutoAttack": r}) for n, c, r in ((0, 1, 0), (1, 0.5, 1))]
    by_test = sweep("sweep.recommend.keep_clean=0.9", "sweep.select_on=test")
    assert BestSoFar(by_test, tested).best()[0][LAMBDA1] == 0


def test_a_collapsed_student_is_worth_nothing_to_scheduler_and_sampler():
    metrics = {"agreement_clean": 0.9, "agreement_pgd": 0.8, "scores": {MEASURE: 0.7}, "epoch": 3}
    figures = {"agreement_clean": 0.9, "agreement_pgd": 0.8, MEASURE: 0.7}
    assert standing_of({**metrics, "collapsed": False}) == figures
    assert standing_of({**metrics, "collapsed": True}) == dict.fromkeys(figures, 0.0)
    fallen = record(0, pgd=0.9, collapsed=True)
    assert scores_of(fallen, ["agreement_pgd"], sweep()) == [0.0]
    assert scores_of(fallen, [MEASURE], sweep()) is None


def test_a_named_metric_is_what_every_trial_measures():
    named = sweep("sweep.metric=agreement_ce")
    assert measure_of(named).name == "agreement_ce"
    trial = make_trial(named, {LAMBDA1: 1, LAMBDA2: 1}, 0)
    assert trial.config.training.measure.name == "agreement_ce"
    own = sweep("sweep.metric=agreement_ce", measure="{name: agreement_ce, num_steps: 7}")
    assert make_trial(own, {LAMBDA1: 1, LAMBDA2: 1}, 0).config.training.measure.options == {
        "num_steps": 7
    }
    # What is measured changes neither the student nor its folder.
    assert make_trial(sweep(), {LAMBDA1: 1, LAMBDA2: 1}, 0).name == trial.name


def test_a_search_for_a_front_takes_clean_agreement_and_the_measure():
    search = ("sweep.search=tpe-pareto", "sweep.max_trials=4")
    assert metrics_of_search(sweep(*search)) == ("agreement_clean", MEASURE)
    assert metrics_of_search(sweep(*search), [record(0)]) == ("agreement_clean", "agreement_pgd")
    with pytest.raises(InputError, match="needs a robust metric beside clean"):
        check_metric(sweep(*search, "sweep.metric=agreement_clean"))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("sweep.metric=agreement_cee", "sweep.metric: 'agreement_cee' is not measured"),
        ("training.measure=agreement_cee", "did you mean 'agreement_ce'"),
        ("training.measure={name: agreement_ce, num_steps: 0}", "training.measure.num_steps"),
        ("sweep.recommend.keep_clean=0", "sweep.recommend.keep_clean"),
        ("sweep.recommend.keep_clean=1.1", "sweep.recommend.keep_clean"),
        ("sweep.recommend.keep=1", "known are keep_clean"),
        (
            "sweep.parameters.training.measure={grid: [agreement_ce, agreement_pgd]}",
            "sweep.parameters.training.measure: settings are compared by it",
        ),
        (
            "sweep.cases.by={a: {training: {measure: agreement_ce}}, b: {}}",
            "sweep.cases.by.a.training.measure: settings are compared by it",
        ),
    ],
)
def test_what_cannot_be_compared_by_is_refused_by_its_key(override, said):
    with pytest.raises(InputError) as refused:
        _checked(override)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def _checked(override):
    config = sweep(override)
    check_metric(config)
    listed_trials(config)
