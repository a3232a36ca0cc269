"""The configurations that are shipped as examples."""

from pathlib import Path

import jsonschema
import pytest
import yaml

from dfshield.config import Config, load_config
from dfshield.runs.evaluation import attacks_of

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.yaml"))


@pytest.fixture(scope="module")
def schema():
    """What `dfshield config schema` prints."""
    schema = Config.model_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_there_are_examples():
    assert "digits.yaml" in {path.name for path in EXAMPLES}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_valid_and_opens_with_its_command(path):
    config = load_config(path)
    assert attacks_of(config)
    first = path.read_text().splitlines()[0]
    assert first.startswith("# ")
    assert f"dfshield run examples/{path.name}" in first


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_schema_accepts_an_example_and_refuses_a_typo(path, schema):
    tree = yaml.safe_load(path.read_text())
    schema.validate(tree)
    assert not schema.is_valid({**tree, "sythesis": {}})
    assert not schema.is_valid({**tree, "threat": {"epsilon": 0.1}})
