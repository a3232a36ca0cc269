"""The configurations that are shipped as examples."""

from pathlib import Path

import pytest

from dfshield.config import load_config
from dfshield.runs.evaluation import attacks_of

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.yaml"))


def test_there_are_examples():
    assert "digits.yaml" in {path.name for path in EXAMPLES}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_valid_and_opens_with_its_command(path):
    config = load_config(path)
    assert attacks_of(config)
    first = path.read_text().splitlines()[0]
    assert first.startswith("# ")
    assert f"dfshield run examples/{path.name}" in first
