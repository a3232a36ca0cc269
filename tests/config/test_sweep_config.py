"""The sweep section: axes, presets, and what is refused."""

import pytest

from dfshield.config import config_from, dump_config, parse_yaml
from dfshield.config.sweep import SWEEP_PRESETS
from dfshield.errors import InputError

TEACHER = {"source": "medmnist:resnet18", "weights": "weights.pt"}


def sweep_of(**section):
    return config_from({"name": "run", "teacher": TEACHER, "sweep": section}).sweep


# Tables 25/26, 24, 23, figure 5, tables 14/15.
@pytest.mark.parametrize(
    ("preset", "axes"),
    [
        (
            "sensitivity-lambda",
            {
                "training.objective.lambda1": (0, 0.01, 0.1, 1, 10, 100),
                "training.objective.lambda2": (0, 0.01, 0.1, 1, 10, 100),
            },
        ),
        (
            "sensitivity-tau",
            {"training.gradrefine.tau": (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)},
        ),
        ("sensitivity-k", {"training.gradrefine.num_batches": (1, 2, 4, 8, 10, 20, 40)}),
        ("num-samples", {"synthesis.num_images": (10000, 20000, 30000, 40000, 50000, 60000)}),
        ("epsilon", {"threat.eps": ("2/255", "4/255", "6/255", "8/255")}),
    ],
)
def test_presets_have_the_axes_of_the_studies(preset, axes):
    sweep = sweep_of(preset=preset)
    assert {key: axis.ends for key, axis in sweep.parameters.items()} == axes
    assert sweep.name == preset
    assert preset in SWEEP_PRESETS


def test_a_preset_can_be_varied_and_named():
    key = "training.objective.lambda1"
    sweep = sweep_of(preset="sensitivity-lambda", name="mine", parameters={key: {"grid": [3]}})
    assert sweep.name == "mine"
    assert sweep.parameters[key].ends == (3,)
    assert len(sweep.parameters) == 2


def test_axes_may_be_nested_as_overrides_make_them():
    nested = {"training": {"gradrefine": {"tau": {"grid": [0, 1]}}}}
    flat = {"training.gradrefine.tau": {"grid": [0, 1]}}
    assert sweep_of(parameters=nested) == sweep_of(parameters=flat)


def test_cases_are_axes_before_the_keys():
    cases = {"teacher": {"small": {}, "wide": {"teacher": {"options": {"width": 2}}}}}
    sweep = sweep_of(cases=cases, parameters={"training.epochs": {"grid": [1, 2]}})
    assert {key: axis.ends for key, axis in sweep.axes.items()} == {
        "cases.teacher": ("small", "wide"),
        "training.epochs": (1, 2),
    }
    assert sweep.cases == cases


def test_a_dumped_sweep_reads_back_the_same():
    section = {"preset": "sensitivity-tau", "seeds": [1, 2], "max_concurrent": 3}
    config = config_from({"name": "run", "teacher": TEACHER, "sweep": section})
    again = config_from(parse_yaml(dump_config(config), where="dumped"))
    assert again == config


@pytest.mark.parametrize(
    ("section", "names"),
    [
        ({"preset": "sensitivity-rho"}, "sweep: preset: 'sensitivity-rho' is unknown"),
        ({"parameters": {"a.b": {"grid": []}}}, "a.b.grid"),
        ({"parameters": {"a.b": {"grid": [1, 1]}}}, "grid has a value twice"),
        ({"parameters": {"a.b": {"grid": [1], "uniform": [0, 1]}}}, "give one of"),
        ({"parameters": {"a.b": [0, 1]}}, "sweep.parameters.a.b"),
        ({"parameters": {"a.b": {"gird": [1]}}}, "gird"),
        ({"parameters": {"a.b": {"uniform": [1, 0]}}, "search": "random"}, "must be below"),
        ({"parameters": {"a.b": {"loguniform": [0, 1]}}}, "both ends must be above 0"),
        ({"parameters": {"a.b": {"uniform": [0, 1]}}}, "sweep: parameters.a.b: a grid search"),
        ({"search": "tpe"}, "max_trials"),
        ({"seeds": [1, 1]}, "different seeds"),
        ({"seeds": []}, "sweep.seeds"),
        ({"workers_per_trial": 2, "gpus_per_trial": 0.5}, "cannot share a GPU"),
        ({"shceduler": "asha"}, "did you mean 'scheduler'"),
        ({"max_concurrent": 0}, "sweep.max_concurrent"),
        ({"gpus_per_trial": 2}, "sweep.gpus_per_trial"),
        ({"cases": {"a": {}}}, "sweep.cases: a: name at least one case"),
        ({"cases": {"a": ["x"]}}, "sweep.cases: a: name at least one case"),
        ({"cases": ["a"]}, "sweep.cases: a section with a name for every axis"),
        ({"cases": {"a.b": {"x": {}}}}, "sweep.cases: a.b: the name of an axis"),
        ({"cases": {"a": {"x y": {}}}}, "sweep.cases: a.x y: a name has"),
        ({"cases": {"a": {"x": "y"}}}, "sweep.cases: a.x: the settings of the case"),
        ({"cases": {"a": {"x": {}, "y": {}}}}, "cases.a: x and y are the same case"),
    ],
)
def test_what_cannot_be_is_refused_by_its_key(section, names):
    with pytest.raises(InputError) as refused:
        sweep_of(**section)
    assert names in str(refused.value)
    assert "\n" not in str(refused.value)
