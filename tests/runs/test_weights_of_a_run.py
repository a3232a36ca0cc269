"""The weights file of a teacher: taken where it fits, otherwise one line that says why not."""

import pytest
import torch
from tiny_run import TINY, call, changed, contents, nothing_begun, succeed

from dfshield.classifiers import build


@pytest.fixture
def with_weights(fresh, tmp_path):
    """A function that gives a configuration whose teacher comes from a weights file."""

    def make(content, **changes):
        path = tmp_path / "weights.pt"
        torch.save(content, path)
        tree = changed(TINY, teacher__weights=str(path), teacher__mean=[0.5], teacher__std=[0.5])
        del tree["teacher"]["train"]
        return fresh(tree, **{"teacher__num_classes": 10, **changes})

    return make


@pytest.fixture
def state():
    """The weights of a teacher that fits."""
    teacher = build("dfshield:resnet8", options={"width": 8}, input_shape=(1, 8, 8), num_classes=10)
    return teacher.network.state_dict()


def test_weights_that_fit_are_taken(with_weights, state):
    config, run = with_weights({"state_dict": {f"module.{k}": v for k, v in state.items()}})
    succeed("teacher", config)
    assert "teacher/model.safetensors" in contents(run)


def test_weights_of_another_architecture_name_the_keys(with_weights, state):
    state["extra.weight"] = state.pop("linear.weight")
    config, run = with_weights(state)
    line = call("run", config).refusal()
    for word in ("weights.pt", "dfshield:resnet8", "linear.weight", "extra.weight"):
        assert word in line
    assert nothing_begun(run)


def test_weights_of_another_width_name_the_shapes(with_weights, state):
    config, run = with_weights(state, teacher__options={"width": 16})
    line = call("run", config).refusal()
    assert "another shape" in line
    assert nothing_begun(run)


def test_weights_of_another_class_count_say_both(with_weights, state):
    config, run = with_weights(state, teacher__num_classes=7)
    line = call("run", config).refusal()
    assert "10 classes" in line
    assert "7" in line
    assert nothing_begun(run)


def test_a_pickled_module_is_refused(with_weights):
    config, run = with_weights(torch.nn.Linear(2, 2))
    line = call("run", config).refusal()
    assert "state_dict" in line
    assert nothing_begun(run)


def test_weights_that_are_not_finite_are_refused_by_name(with_weights, state):
    state["linear.bias"][3] = float("nan")
    config, run = with_weights(state)
    line = call("run", config).refusal()
    assert "linear.bias" in line
    assert "NaN" in line
    assert nothing_begun(run)


def test_a_weights_file_that_is_missing_is_named(with_weights, state, tmp_path):
    config, run = with_weights(state)
    (tmp_path / "weights.pt").unlink()
    assert str(tmp_path / "weights.pt") in call("run", config).refusal()
    assert nothing_begun(run)
