"""From a sweep section to trials: names, values, draws, and what is refused before the first."""

import numpy as np
import pytest
from tiny_run import TINY, changed

from dfshield.config import config_from
from dfshield.errors import InputError
from dfshield.runs.sweep.plan import listed_trials, make_trial, source_key

LAMBDA1, LAMBDA2 = "training.objective.lambda1", "training.objective.lambda2"
TAU, K = "training.gradrefine.tau", "training.gradrefine.num_batches"


def config_of(parameters, *, seeds=None, search="grid", max_trials=None, **changes):
    sweep = {"parameters": parameters, "seeds": seeds, "search": search, "max_trials": max_trials}
    return config_from(changed(TINY, sweep=sweep, **changes))


def test_a_grid_is_every_combination_with_every_seed():
    axes = {LAMBDA1: {"grid": [0, 1]}, TAU: {"grid": [0, 0.5, 1]}}
    trials = listed_trials(config_of(axes, seeds=[3, 4]))
    found = {(t.values[LAMBDA1], t.values[TAU], t.seed) for t in trials}
    assert found == {(a, b, s) for a in (0, 1) for b in (0, 0.5, 1) for s in (3, 4)}
    assert len({trial.name for trial in trials}) == len(trials) == 12
    for trial in trials:
        assert trial.config.training.objective.lambda1 == trial.values[LAMBDA1]
        assert trial.config.training.gradrefine.tau == trial.values[TAU]
        assert trial.config.seed == 0  # of the surrogate data set, which all share
    assert len({source_key(trial.config) for trial in trials}) == 1


def test_a_value_has_one_name_however_it_is_written():
    names = [
        [trial.name for trial in listed_trials(config_of({LAMBDA1: {"grid": grid}}))]
        for grid in ([0, 1], [0.0, 1.0], [1, 0])
    ]
    assert names[0] == names[1] == names[2][::-1]


def test_values_added_to_a_grid_leave_the_others_names():
    few = listed_trials(config_of({TAU: {"grid": [0, 0.5]}}))
    many = listed_trials(config_of({TAU: {"grid": [0, 0.25, 0.5]}}))
    assert {trial.name for trial in few} < {trial.name for trial in many}


def test_only_keys_of_the_synthesis_change_the_data_set():
    def sources(key, values):
        trials = listed_trials(config_of({key: {"grid": values}}))
        return len({source_key(trial.config) for trial in trials})

    assert sources("synthesis.num_images", [40, 80]) == 1  # one set that grows
    assert sources("threat.eps", [0.05, 0.1]) == 1
    assert sources("synthesis.iterations", [5, 6]) == 2
    assert sources("synthesis.coefficients.rule", ["code", "fixed"]) == 2
    assert sources("seed", [0, 1]) == 2


def test_an_axis_under_an_old_key_has_the_trials_of_the_previous_release():
    old = config_of(
        {
            "synthesis.coefficients.class_scale": {"grid": [1, 2.0]},
            "synthesis.iterations": {"grid": [5]},
        }
    )
    trials = listed_trials(old)
    assert [trial.name for trial in trials] == [
        "class_scale-1.0_iterations-5_seed-0-521a9a65",
        "class_scale-2.0_iterations-5_seed-0-29be3bfc",
    ]
    assert [t.config.synthesis.method.coefficients["class_scale"] for t in trials] == [1, 2]
    new = config_of({"synthesis.method.coefficients.class_scale": {"grid": [1, 2.0]}})
    assert [source_key(t.config) for t in listed_trials(new)] == [
        source_key(t.config) for t in trials
    ]


def test_random_draws_depend_on_the_seed_alone_and_stay_in_range():
    axes = {
        TAU: {"uniform": [0.2, 0.4]},
        LAMBDA1: {"loguniform": [0.01, 100]},
        K: {"randint": [1, 4]},
        "training.inner.num_steps": {"grid": [2, 3]},
    }

    def drawn(max_trials, seed=0):
        config = config_of(axes, search="random", max_trials=max_trials, seed=seed)
        return [trial.values for trial in listed_trials(config)]

    many = drawn(60)
    assert many[:20] == drawn(20)
    assert many != drawn(60, seed=1)
    assert all(0.2 <= values[TAU] < 0.4 for values in many)
    assert {values[K] for values in many} == {1, 2, 3}
    assert {values["training.inner.num_steps"] for values in many} == {2, 3}
    logs = np.log10([values[LAMBDA1] for values in many])
    assert logs.min() >= -2
    assert logs.max() <= 2
    assert abs(logs.mean()) < 0.5  # even in the logarithm
    assert len({str(values) for values in many}) == 60


def test_another_objective_does_not_inherit_the_settings_of_the_first():
    trials = listed_trials(
        config_of({"training.objective.name": {"grid": ["soft-label", "trades"]}})
    )
    assert [trial.config.training.objective.name for trial in trials] == ["soft-label", "trades"]


@pytest.mark.parametrize(
    ("axes", "named"),
    [
        ({K: {"grid": [1, 5]}}, [f"{K}=5", "4 mini-batches of an epoch"]),
        ({TAU: {"grid": [0.5, 1.1]}}, [f"{TAU}=1.1", "less than or equal to 1"]),
        (
            {LAMBDA1: {"grid": [1, -0.1]}},
            [f"{LAMBDA1}=-0.1", "must be a finite number of at least 0"],
        ),
        ({"training.gradrefine.taw": {"grid": [0]}}, ["did you mean 'tau'"]),
        ({"threat.eps": {"grid": [8]}}, ["threat.eps", '"8/255"']),
        ({"evaluation.num_images": {"grid": [8]}}, ["does not change a student"]),
        ({"storage.path": {"grid": ["a"]}}, ["does not change a student"]),
        ({}, ["sweep.parameters", "sweep.preset"]),
        ({"synthesis.num_images": {"grid": [70]}}, ["synthesis.batch_size: 20 does not divide"]),
    ],
)
def test_what_no_student_can_be_trained_with_is_refused(axes, named):
    with pytest.raises(InputError) as refused:
        listed_trials(config_of(axes))
    for text in named:
        assert text in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_ends_of_ranges_are_refused_before_a_sampler_draws_them():
    with pytest.raises(InputError, match=r"4 mini-batches of an epoch"):
        listed_trials(config_of({K: {"randint": [1, 6]}}, search="tpe", max_trials=3))
    assert listed_trials(config_of({K: {"randint": [1, 5]}}, search="tpe", max_trials=3)) == []


def test_a_sampler_cannot_ask_for_other_images():
    with pytest.raises(InputError, match="varies the training alone"):
        listed_trials(
            config_of({"synthesis.iterations": {"randint": [4, 9]}}, search="tpe", max_trials=3)
        )


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"synthesis__num_holdout": 0}, "synthesis.num_holdout"),
        ({"training__data": "elsewhere"}, "training.data names a finished data set"),
    ],
)
def test_what_contradicts_the_sweep_is_refused(changes, named):
    with pytest.raises(InputError, match=named):
        listed_trials(config_of({"synthesis.iterations": {"grid": [5, 6]}}, **changes))


def test_seeds_of_the_run_and_of_the_sweep_are_told_apart():
    tree = changed(TINY, sweep__parameters={TAU: {"grid": [0]}}, seeds=[0, 1])
    with pytest.raises(InputError, match=r"sweep\.seeds for training"):
        listed_trials(config_from(tree))
    with pytest.raises(InputError, match=r"sweep\.seeds: not beside"):
        listed_trials(config_of({"seed": {"grid": [0, 1]}}, seeds=[1]))
    by_seed = listed_trials(config_of({"seed": {"grid": [5, 6]}}))
    assert [(trial.seed, trial.config.seed) for trial in by_seed] == [(5, 5), (6, 6)]


def test_names_are_safe_for_folders():
    trial = make_trial(config_of({"threat.eps": {"grid": ["4/255"]}}), {"threat.eps": "4/255"}, 7)
    assert trial.name.startswith("eps-4_255_seed-7-")
    assert trial.values == {"threat.eps": "4/255"}
