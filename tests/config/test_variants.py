"""Keys that take a variant of a family: how they are written, and what is said of wrong ones."""

from pathlib import Path

import jsonschema
import pytest
import yaml

from dfshield.config import Config, config_from, load_config
from dfshield.config.yaml_text import read_yaml
from dfshield.errors import InputError

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").rglob("*.yaml"))
MINIMAL = {"name": "run", "teacher": {"source": "medmnist:resnet18", "weights": "weights.pt"}}


@pytest.fixture
def configured(tmp_path):
    """A function from sections of a file, and overrides, to the configuration."""

    def load(sections, *overrides):
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump({**MINIMAL, **sections}))
        return load_config(path, overrides)

    return load


@pytest.mark.parametrize(
    ("sections", "override", "said"),
    [
        (
            {},
            "training.objective.lamda1=1",
            "training.objective.lamda1: is no option of soft-label: did you mean 'lambda1'?",
        ),
        (
            {},
            "training.objective.lambda1=-1",
            "training.objective.lambda1: -1 must be a finite number of at least 0",
        ),
        (
            {},
            "training.objective={name: tradse}",
            "training.objective.name: objective 'tradse' is unknown: did you mean 'trades'?",
        ),
        (
            {},
            "training.objective=tradse",
            "training.objective.name: objective 'tradse' is unknown: did you mean 'trades'?",
        ),
        (
            {},
            "training.objective=3",
            "training.objective: a name or a section with a name was expected (got 3)",
        ),
        (
            {"training": {"objective": {"name": "trades"}}},
            "training.objective.lambda1=1",
            "training.objective.lambda1: is no option of trades: known are beta",
        ),
        (
            {"evaluation": {"attacks": ["fgsm", {"name": "pgd", "num_stesp": 3}]}},
            "seed=1",
            "evaluation.attacks.1.num_stesp: is no option of pgd: did you mean 'num_steps'?",
        ),
        (
            {},
            "evaluation.attacks=[{name: pgd, num_steps: 0}]",
            "evaluation.attacks.0.num_steps: 0 must be a whole number of at least 1",
        ),
        (
            {},
            "evaluation.attacks=[{name: transfer, inner: pdg}]",
            "evaluation.attacks.0.inner: 'pdg' is unknown: did you mean 'pgd'?",
        ),
        ({"threat": {"norm": "l2", "eps": 0.5}}, "evaluation.attacks=[latent]", "attacks.0.norm:"),
        ({}, "evaluation.attacks=[{steps: 3}]", "evaluation.attacks.0.name: this key is required"),
        ({}, "evaluation.attacks=pgd", "evaluation.attacks: a list was expected"),
        ({}, "trackers=[tensorbord]", "trackers.0.name: tracker 'tensorbord' is unknown: did you"),
        (
            {},
            "trackers=[{name: mlflow, experimant: x}]",
            "trackers.0.experimant: is no option of mlflow: did you mean 'experiment'?",
        ),
        ({}, "trackers=[{name: wandb, project: ''}]", "trackers.0.project: '' must be a text"),
        ({}, "trackers=[wandb, {name: wandb}]", "trackers: wandb stands there twice"),
        ({}, "trackers=mlflow", "trackers: a list was expected"),
    ],
)
def test_wrong_ones_are_named_by_the_full_path_of_their_key(configured, sections, override, said):
    with pytest.raises(InputError) as refused:
        configured(sections, override)
    message = str(refused.value)
    assert said in message
    assert message.startswith("/")  # the file
    assert "\n" not in message
    assert message.count(said) == 1


def test_a_tracker_is_named_alone_or_with_options(configured):
    assert [t.name for t in configured({}).trackers] == ["tensorboard"]
    named = configured({}, "trackers=[tensorboard, {name: mlflow, experiment: mine}]").trackers
    assert [t.model_dump() for t in named] == [
        {"name": "tensorboard"},
        {"name": "mlflow", "experiment": "mine"},
    ]


def test_options_are_overridden_beside_a_name_that_stands_alone(configured):
    trades = {"training": {"objective": "trades"}}
    objective = configured(trades, "training.objective.beta=2").training.objective
    assert objective.model_dump() == {"name": "trades", "beta": 2}


def test_the_name_alone_keeps_the_options_of_the_preset_as_a_section_does():
    for named in ("soft-label", {"name": "soft-label"}):
        tree = {**MINIMAL, "preset": "official/cifar10", "training": {"objective": named}}
        assert config_from(tree).training.objective.temperature == 20


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_keep_to_the_schema(path):
    jsonschema.validate(read_yaml(path.read_text()), Config.model_json_schema())


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"training": {"objective": {"lamda1": 1}}}, "'lamda1' was unexpected"),
        ({"training": {"objective": {"name": "trades", "lambda1": 1}}}, "'lambda1' was unexpected"),
        ({"training": {"objective": "tradse"}}, "'tradse' is not one of"),
        ({"training": {"objective": {"reduction": "sum"}}}, "'sum' is not one of"),
        (
            {"evaluation": {"attacks": [{"name": "pgd", "num_stesp": 3}]}},
            "'num_stesp' was unexpected",
        ),
        ({"evaluation": {"attacks": [{"name": "pgd", "num_steps": "3"}]}}, "not of type 'integer'"),
        ({"evaluation": {"attacks": [{"num_steps": 3}]}}, "'name' is a required property"),
        ({"trackers": ["tensorbord"]}, "'tensorbord' is not one of"),
        ({"trackers": [{"name": "mlflow", "project": "x"}]}, "'project' was unexpected"),
    ],
)
def test_the_schema_refuses_what_the_configuration_refuses(sections, said):
    schema = Config.model_json_schema()
    tree = {**MINIMAL, "training": {"objective": {"lambda1": 2}}}
    jsonschema.validate(tree, schema)  # the objective without a name is the paper's
    with pytest.raises(jsonschema.ValidationError, match=said):
        jsonschema.validate({**MINIMAL, **sections}, schema)
