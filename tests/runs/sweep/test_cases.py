"""Named cases as axes: the trials they make, what they share, and what is refused."""

import pytest
from tiny_run import TINY, call, changed, run_of, write_config

from dfshield.config import config_from, dump_config, parse_yaml
from dfshield.errors import InputError
from dfshield.runs.sweep import require_matrix
from dfshield.runs.sweep.cases import comparable, varied_keys
from dfshield.runs.sweep.plan import listed_trials, make_trial, source_key

TAU = "training.gradrefine.tau"
OWN = {"name": "digits", "split": "train"}
TEACHERS = {"small": {}, "wide": {"teacher": {"options": {"width": 12}}}}
IMAGES = {
    "surrogate": {},
    "original": {
        "training": {"images": {"data": OWN, "labels": "hard"}, "objective": "std"},
    },
}
MATRIX = {"teacher": TEACHERS, "images": IMAGES}


def config_of(cases, *, parameters=None, seeds=None, **changes):
    sweep = {"cases": cases, "parameters": parameters or {}, "seeds": seeds}
    return config_from(changed(TINY, sweep=sweep, **changes))


def cells(config):
    trials = listed_trials(config)
    return {(*t.values.values(), t.seed): t for t in trials}


def test_every_case_of_one_axis_meets_every_case_of_the_other_with_every_seed():
    found = cells(config_of(MATRIX, seeds=[3, 4]))
    assert set(found) == {(t, i, s) for t in TEACHERS for i in IMAGES for s in (3, 4)}
    for (teacher, images, _), trial in found.items():
        assert trial.values == {"cases.teacher": teacher, "cases.images": images}
        assert trial.config.teacher.options["width"] == (12 if teacher == "wide" else 8)
        assert trial.config.teacher.train is not None
        assert trial.config.data_free == (images == "surrogate")
        assert trial.config.training.objective.name == (
            "std" if images == "original" else "soft-label"
        )
    assert found["wide", "original", 3].name.startswith("teacher-wide_images-original_seed-3-")
    assert len({trial.name for trial in found.values()}) == 8


def test_the_cells_of_a_row_share_their_images():
    found = cells(config_of(MATRIX))
    keys = {key: source_key(trial.config) for key, trial in found.items()}
    assert keys["small", "surrogate", 0] == keys["small", "original", 0]
    assert keys["wide", "surrogate", 0] == keys["wide", "original", 0]
    assert len(set(keys.values())) == 2
    assert keys["small", "surrogate", 0] == source_key(config_of(MATRIX))  # the run's own


def test_a_case_that_says_something_else_makes_another_trial():
    longer = {**IMAGES, "original": {"training": {**IMAGES["original"]["training"], "epochs": 3}}}
    before = {key: trial.name for key, trial in cells(config_of(MATRIX)).items()}
    after = {k: t.name for k, t in cells(config_of({**MATRIX, "images": longer})).items()}
    assert {key for key in before if before[key] != after[key]} == {
        ("small", "original", 0),
        ("wide", "original", 0),
    }
    more = {**IMAGES, "longer": {"training": {"epochs": 3}}}
    grown = {k: t.name for k, t in cells(config_of({**MATRIX, "images": more})).items()}
    assert before.items() < grown.items()


def test_what_is_written_down_reads_back_as_the_same_trials():
    cases = {"rate": {"low": {"training.learning_rate": 1e-3}, "high": {}}}
    config = config_of(cases, parameters={TAU: {"grid": [0, 1]}})
    again = config_from(parse_yaml(dump_config(config), where="dumped"))
    assert [t.name for t in listed_trials(again)] == [t.name for t in listed_trials(config)]
    assert {t.config.training.learning_rate for t in listed_trials(config)} == {1e-3, 1e-4}
    written = parse_yaml("{rate: {low: {training: {learning_rate: 1e-3}}, high: {}}}", where="text")
    nested = config_of(written, parameters={TAU: {"grid": [0, 1]}})
    assert [t.name for t in listed_trials(nested)] == [t.name for t in listed_trials(config)]


def test_cases_may_stand_beside_keys():
    config = config_of({"images": IMAGES}, parameters={TAU: {"grid": [0, 1]}})
    assert [tuple(t.values.values()) for t in listed_trials(config)] == [
        ("surrogate", 0),
        ("surrogate", 1),
        ("original", 0),
        ("original", 1),
    ]
    assert varied_keys(config.sweep) == {
        TAU,
        "training.objective",
        "training.images.labels",
        "training.images.data.name",
        "training.images.data.split",
    }


def test_a_teacher_of_another_source_is_another_teacher_altogether():
    other = {"teacher": {"source": "runs/elsewhere"}}
    trial = make_trial(
        config_of({"teacher": {"small": {}, "other": other}}), {"cases.teacher": "other"}, None
    )
    assert trial.config.teacher.train is None
    assert trial.config.teacher.options == {}


def test_settings_of_different_teachers_or_test_images_do_not_compare():
    assert comparable(config_of({"images": IMAGES}).sweep)
    assert not comparable(config_of(MATRIX).sweep)
    data = {"own": {}, "other": {"evaluation": {"data": {"name": "npz", "path": "other.npz"}}}}
    assert not comparable(config_of({"data": data}).sweep)
    found = cells(config_of({"data": data}))
    assert found["other", 0].config.evaluation.data.name == "npz"


@pytest.mark.parametrize(
    ("cases", "named"),
    [
        ({"a": {"x": {"trainig": {"epochs": 3}}}}, r"sweep\.cases \(a=x\): trainig: unknown key"),
        ({"a": {"x": {"training": {"epocs": 3}}}}, r"training\.epocs: unknown key.*'epochs'"),
        ({"a": {"x": {"training": {"epochs": 0}}}}, r"\(a=x\): training\.epochs"),
        ({"a": {"x": {"evaluation": {"num_images": 3}}}}, r"cases\.a\.x\.evaluation\.num_images"),
        ({"a": {"x": {"training.data": "elsewhere"}}}, r"cases\.a\.x\.training\.data"),
        ({"a": {"x": {"seed": 3}}}, r"cases\.a\.x\.seed: name the seeds .* sweep\.seeds"),
        ({"a": {"x": {"threat": {"norm": "l2"}}}}, r"cases\.a\.x\.threat\.norm"),
        (
            {
                "a": {"x": {"training.objective": "mart"}},
                "b": {"y": {"training.objective.beta": 2}},
            },
            r"sweep\.cases\.a: sets training\.objective, which sweep\.cases\.b sets as well",
        ),
        ({"a": {"x": {TAU: 0}, "y": {}}}, r"sweep\.cases\.a: sets .*tau, which sweep\.parameters"),
    ],
)
def test_cases_that_cannot_be_are_refused_by_name(cases, named):
    parameters = {TAU: {"grid": [0, 1]}} if TAU in str(cases) else None
    with pytest.raises(InputError, match=named) as refused:
        listed_trials(config_of(cases, parameters=parameters))
    assert "\n" not in str(refused.value)


def test_references_are_not_judged_by_a_holdout_that_they_do_not_have():
    tree = changed(TINY, sweep__cases={"images": IMAGES}, sweep__scheduler="asha")
    with pytest.raises(InputError, match=r"sweep\.scheduler: asha judges by the synthetic"):
        listed_trials(config_from(tree))


@pytest.mark.parametrize(
    ("sweep", "named"),
    [
        ({"cases": {"images": IMAGES}}, "this sweep has images"),
        ({"cases": {**MATRIX, "third": {"x": {}}}}, "this sweep has teacher, images, third"),
        ({"cases": MATRIX, "parameters": {TAU: {"grid": [0]}}}, f"images, {TAU}"),
        ({}, "this sweep has none"),
    ],
)
def test_a_matrix_has_two_axes_of_cases(sweep, named):
    require_matrix(config_of(MATRIX))
    with pytest.raises(InputError, match=rf"sweep\.cases: a matrix has two axes.*{named}"):
        require_matrix(config_from(changed(TINY, sweep=sweep)))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{teacher: {}, images: {x: {}}}", "sweep.cases: teacher: name at least one case"),
        ("{teacher: {x: {}, x: {seed: 1}}}", "the key 'x' is given twice"),
        ("{teacher: {x: {}}}", "sweep.cases: a matrix has two axes"),
        ("{teacher: {x: {}}, images: {y: {training: {epocs: 1}}}}", "did you mean 'epochs'"),
    ],
)
def test_the_command_refuses_them_in_one_line_and_does_nothing(tmp_path, text, named):
    config = write_config(tmp_path)
    assert named in call("matrix", config, f"sweep.cases={text}").refusal()
    assert not run_of(config).exists()
