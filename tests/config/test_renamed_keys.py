"""Keys under their old names: read as the new ones, in files, overrides, presets and sweeps."""

import pytest
import yaml

from dfshield.canonical import identity_hash
from dfshield.config import config_from, current_key, dump_config, load_config
from dfshield.errors import InputError
from dfshield.runs.inputs.synthesizer import image_settings, recorded_synthesis

MINIMAL = {"name": "run", "teacher": {"source": "medmnist:resnet18", "weights": "weights.pt"}}
OLD = {
    "iterations": 500,
    "learning_rate": 1,
    "jitter": 0,
    "labels": "random",
    "coefficients": {"rule": "paper", "class_scale": 2},
}


def method_of(**synthesis):
    return config_from({**MINIMAL, "synthesis": synthesis}).synthesis.method


def test_the_old_keys_are_read_as_options_of_the_method():
    old = method_of(**OLD)
    assert old == method_of(method={"name": "dss", **OLD})
    assert old == method_of(
        method={"name": "dss", "iterations": 500}, **dict(list(OLD.items())[1:])
    )
    assert old == method_of(method="dss", **OLD)
    assert (old.iterations, old.learning_rate, old.coefficients["class_scale"]) == (500, 1.0, 2.0)
    assert isinstance(old.learning_rate, float)
    assert current_key("synthesis.coefficients.rule") == "synthesis.method.coefficients.rule"
    for same in ("synthesis.num_images", "training.learning_rate", "synthesis.labels_of"):
        assert current_key(same) == same


@pytest.mark.parametrize("key", ["synthesis", "synthesis.method"])
@pytest.mark.parametrize(
    "written", [{"iterations": 5}, {"method": {"name": "dss", "iterations": 5}}]
)
def test_an_override_wins_over_the_file_and_the_file_over_the_preset(tmp_path, key, written):
    path = tmp_path / "config.yaml"
    tree = {**MINIMAL, "preset": "paper/medical", "synthesis": written}
    path.write_text(yaml.safe_dump(tree))
    assert load_config(path).synthesis.method.iterations == 5
    config = load_config(path, [f"{key}.iterations=7", f"{key}.coefficients.tv_scale=1e-3"])
    assert config.synthesis.method.iterations == 7
    assert config.synthesis.method.labels == "random"  # the preset's
    assert config.synthesis.method.coefficients["tv_scale"] == 0.001
    dumped = yaml.safe_load(dump_config(config))["synthesis"]
    assert dumped["method"]["iterations"] == 7
    assert "iterations" not in dumped


def test_both_names_at_once_are_refused(tmp_path):
    path = tmp_path / "config.yaml"
    both = {"iterations": 5, "method": {"name": "dss", "iterations": 6}}
    path.write_text(yaml.safe_dump({**MINIMAL, "synthesis": both}))
    said = "config.yaml: synthesis.iterations: is synthesis.method.iterations now"
    with pytest.raises(InputError, match=said):
        load_config(path)


@pytest.mark.parametrize(
    ("synthesis", "said"),
    [
        (
            {"iteratoins": 5},
            "synthesis.iteratoins: unknown key; did you mean 'synthesis.method.iterations'?",
        ),
        (
            {"method": {"iteratoins": 5}},
            "synthesis.method.iteratoins: is no option of dss: did you mean 'iterations'?",
        ),
        (
            {"coefficients": {"rul": "code"}},
            "synthesis.method.coefficients.rul: unknown key; did you mean 'rule'?",
        ),
        ({"coefficients": 5}, "synthesis.method.coefficients: a section of settings was expected"),
        ({"method": "dsss"}, "synthesis.method.name: synthesizer 'dsss' is unknown: did you mean"),
        ({"labels": "per-batch"}, "synthesis.method.labels: 'per-batch' is unknown: did you mean"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(synthesis, said):
    with pytest.raises(InputError) as caught:
        method_of(**synthesis)
    assert str(caught.value).startswith(f"config: {said}")


def test_identities_are_those_of_the_previous_release():
    config = config_from({**MINIMAL, "synthesis": OLD})
    settings = image_settings(config.synthesis)
    assert settings == {
        "synthesis": {
            "batch_size": 200,
            "iterations": 500,
            "learning_rate": 1.0,
            "jitter": 0,
            "labels": "random",
            "coefficients": {
                "rule": "paper",
                "class_scale": 2.0,
                "feature_scale": 1.0,
                "tv_scale": None,
                "shift": 0.0,
                "linear": False,
            },
        }
    }
    default = image_settings(config_from(MINIMAL).synthesis)["synthesis"]
    assert identity_hash(default) == (
        "139edd5530f41fdafb4df1fe88e07b89afa972bc09c50c4bde7b289af60a5e68"
    )
    # A release whose hold-outs were made alike did not say so.
    meant = config_from({**MINIMAL, "synthesis": {**OLD, "method": {"holdout": "alike"}}}).synthesis
    assert image_settings(meant) == settings
    assert recorded_synthesis(settings).method == meant.method


def test_later_options_stand_in_identities_where_they_are_not_at_their_defaults():
    method = {"name": "dss", "iterations": 5, "schedule": "cosine", "holdout": "alike"}
    config = config_from({**MINIMAL, "synthesis": {"method": method}})
    settings = image_settings(config.synthesis)
    plain = image_settings(config_from({**MINIMAL, "synthesis": {"iterations": 5}}).synthesis)
    assert settings["synthesis"] == {**plain["synthesis"], "method": {"schedule": "cosine"}}
    assert recorded_synthesis(settings).method == config.synthesis.method
