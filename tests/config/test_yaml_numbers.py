"""Numbers with an exponent: read as YAML 1.2 does, in files, overrides and sweeps alike."""

import copy

import pytest
import yaml

from dfshield.config import config_from, dump_config, load_config
from dfshield.config.yaml_text import read_yaml, write_yaml
from dfshield.runs.identity import differences
from dfshield.runs.inputs.attack_plans import attacks_of
from dfshield.runs.sweep.plan import listed_trials

MINIMAL = """
name: run
teacher: {source: 'medmnist:resnet18', weights: weights.pt}
"""
NUMBERS = {
    "1e-2": 0.01,
    "1E5": 1e5,
    "1e3": 1000.0,
    "+.5e1": 5.0,
    "-1E-5": -1e-5,
    "1.e3": 1000.0,
    "1.5e3": 1500.0,
    "2E+05": 2e5,
}


@pytest.fixture
def configured(tmp_path):
    """A function from YAML text and overrides to the configuration."""

    def load(text="", *overrides):
        path = tmp_path / "config.yaml"
        path.write_text(MINIMAL + text)
        return load_config(path, overrides)

    return load


@pytest.mark.parametrize(("text", "value"), NUMBERS.items())
def test_a_number_is_one_and_in_quotes_it_is_text(text, value):
    assert read_yaml(f"[{text}]") == [value]
    assert read_yaml(f"'{text}'") == text
    assert read_yaml(f'{{a: "{text}"}}') == {"a": text}
    assert read_yaml(write_yaml({"a": text, "b": value})) == {"a": text, "b": value}


def test_all_else_is_read_as_it_was():
    texts = "12 017 1_000 1:30 0x1F .5 5. 1.0e-05 1.5e+3 .inf yes null 1e e5 1e3x 0o17"
    for text in texts.split():
        known = yaml.safe_load(text)
        assert read_yaml(text) == known
        assert type(read_yaml(text)) is type(known), text


def test_attacks_take_them_all_alike(configured):
    text = """
evaluation:
  attacks:
    - {name: pgd, step_size: 1e-2, num_steps: 1e1}
    - {name: spsa, delta: 1e-2, learning_rate: 5E-3, samples: 1e1}
    - {name: square, queries: 1e3}
    - {name: autoattack, version: custom, attacks: [square], queries: 1e2}
"""
    pgd, spsa, square, auto = [a.describe() for a in attacks_of(configured(text))]
    assert (pgd["step_size"], pgd["num_steps"]) == (0.01, 10)
    assert (spsa["delta"], spsa["learning_rate"], spsa["samples"]) == (0.01, 0.005, 10)
    assert square["queries"] == 1000
    assert auto["queries"] == 100
    assert all(type(one) is int for one in (pgd["num_steps"], spsa["samples"], square["queries"]))
    over = configured("", "evaluation.attacks=[{name: spsa, delta: 1e-2}]")
    assert attacks_of(over)[0].describe()["delta"] == 0.01
    quoted = configured("", "evaluation.attacks=[{name: pgd, step: '1e-2'}]")
    assert quoted.evaluation.attacks[0].options == {"step_size": "1e-2"}


def test_overrides_and_options_of_a_factory(configured):
    config = configured(
        "",
        "teacher.options={drop: 1e-1, tag: '1e-1', deep: [{x: 1e2}]}",
        "training.epochs=1e1",
        "training.learning_rate=1e-3",
        "training.gradrefine.tau=5e-1",
        "preset=paper/cifar10",
    )
    assert config.teacher.options == {"drop": 0.1, "tag": "1e-1", "deep": [{"x": 100.0}]}
    assert (config.training.epochs, config.training.learning_rate) == (10, 1e-3)
    assert config.training.gradrefine.tau == 0.5
    assert copy.deepcopy(config) == config  # pickled, as it travels to workers


def test_names_and_paths_stay_as_they_were_written(configured, tmp_path):
    config = configured(
        "storage: {path: 1e3}\nevaluation: {data: {name: folder, path: 2E4}}\n",
        "name=1e-3",
        "sweep.name=5e1",
        "teacher.class_names=[1e1, 2e1, 3]",
        "training.data=7e7",
    )
    assert (config.name, config.sweep.name, config.storage.path) == ("1e-3", "5e1", "1e3")
    assert (config.evaluation.data.path, config.training.data) == ("2E4", "7e7")
    assert config.teacher.class_names == ("1e1", "2e1", "3")
    assert configured("", "name=2026-01-31").name == "2026-01-31"
    with pytest.raises(ValueError, match=r"name: text was expected \(got 7\): put it in quotes"):
        configured("", "name=007")
    assert configured("", "name='007'").name == "007"
    path = tmp_path / "dumped.yaml"
    path.write_text(dump_config(config))
    assert load_config(path) == config


def test_what_was_made_with_such_a_number_is_still_the_same(configured):
    # Sizes have always been kept as they were written: they are a part of identities and names.
    config = configured(
        "",
        "threat.eps=1e-2",
        "training.inner.step_size=1E-3",
        "sweep.parameters.threat.eps={grid: [1e-2, 0.02]}",
        "sweep.parameters.training.learning_rate={grid: [1e-2]}",
    )
    assert (config.threat.eps, config.training.inner.step_size) == ("1e-2", "1E-3")
    assert [trial.name for trial in listed_trials(config)] == [
        "eps-1e-2_learning_rate-0.01_seed-0-935583ef",
        "eps-0.02_learning_rate-0.01_seed-0-7e970db3",
    ]
    # A factory's option was text and is a number now: it says the same.
    assert not differences({"options": {"drop": "1e-1"}}, {"options": {"drop": 0.1}})
    assert differences({"options": {"drop": "1e-1"}}, {"options": {"drop": 0.2}})
    assert differences({"options": {"drop": "low"}}, {"options": {"drop": 0.2}})


def test_swept_values_reach_the_trials_as_numbers(configured):
    config = configured(
        "sweep: {parameters: {teacher.options.drop: {grid: [1e-1, 2e-1]},"
        " training.gradrefine.num_batches: {grid: [1e1]}}}"
    )
    trials = listed_trials(config)
    assert [trial.config.teacher.options["drop"] for trial in trials] == [0.1, 0.2]
    assert {trial.config.training.gradrefine.num_batches for trial in trials} == {10}
    ranged = config_from(
        {
            **read_yaml(MINIMAL),
            "sweep": read_yaml(
                "{search: random, max_trials: 2,"
                " parameters: {training.learning_rate: {loguniform: [1e-4, 1e-2]}}}"
            ),
        }
    )
    assert all(1e-4 <= t.config.training.learning_rate <= 1e-2 for t in listed_trials(ranged))
