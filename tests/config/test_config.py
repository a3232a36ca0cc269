"""Configuration: overrides, resolution, round trip, what is refused."""

import json

import jsonschema
import pytest
import yaml

from dfshield.config import PRESETS, Config, config_from, dump_config, expand, load_config
from dfshield.errors import InputError

MINIMAL = {"name": "run", "teacher": {"source": "medmnist:resnet18", "weights": "weights.pt"}}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    return path


def test_overrides_win_over_the_file_and_take_its_types(file):
    config = load_config(
        file,
        [
            "training.gradrefine.tau=0.3",
            "threat.eps=8/255",
            "seeds=[3, 4]",
            "evaluation.attacks=[{name: fgsm, eps: 1/255}]",
            "training.objective={name: trades}",
            "training.objective.beta=2",
            "evaluation.data.name=digits",
        ],
    )
    assert config.training.gradrefine.tau == 0.3
    assert config.threat.eps == "8/255"
    assert config.all_seeds == (3, 4)
    assert config.evaluation.attacks[0].options == {"eps": "1/255"}
    assert config.training.objective.beta == 2
    assert config.evaluation.data is not None


def test_overriding_one_key_keeps_its_neighbours(file):
    config = load_config(file, ["preset=official/cifar10", "training.objective.lambda1=2"])
    assert config.training.objective.lambda1 == 2
    assert config.training.objective.temperature == 20


@pytest.mark.parametrize("preset", [None, *PRESETS])
@pytest.mark.parametrize("seeds", [None, (1, 2)])
def test_a_dumped_configuration_is_read_back_equal(tmp_path, preset, seeds):
    tree = {**MINIMAL, "preset": preset, **({"seeds": seeds} if seeds else {})}
    config = config_from(tree)
    path = tmp_path / "dumped.yaml"
    path.write_text(dump_config(config))
    assert load_config(path) == config


def test_a_configuration_does_not_change(file):
    config = load_config(file)
    with pytest.raises(ValueError, match="frozen"):
        config.training.epochs = 3


def test_the_holdout_is_wanted_where_it_selects():
    with pytest.raises(InputError, match=r"training.select.*synthesis.num_holdout"):
        config_from({**MINIMAL, "synthesis": {"num_holdout": 0}, "training": {"select": "holdout"}})


@pytest.mark.parametrize(
    ("sizes", "suggestion"),
    [
        ({"synthesis": {"num_images": 1010}}, "synthesis.num_images=1000"),
        ({"storage": {"part_size": 50}}, "storage.part_size=200"),
        ({"storage": {"shard_size": 10_100}}, "storage.shard_size=10"),
    ],
)
def test_sizes_that_do_not_fit_come_with_one_that_does(sizes, suggestion):
    with pytest.raises(InputError, match=suggestion):
        config_from({**MINIMAL, "training": {"gradrefine": {"num_batches": 1}}, **sizes})


def test_every_problem_is_told_at_once():
    with pytest.raises(InputError) as error:
        config_from({**MINIMAL, "sed": 1, "threat": {"eps": 8}, "synthesis": {"jitter": -1}})
    for key in ("sed", "threat.eps", "synthesis.method.jitter"):
        assert key in str(error.value)
    assert "\n" not in str(error.value)


def test_paths_are_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("SOME_FOLDER", str(tmp_path))
    monkeypatch.setenv("HOME", "/home/somebody")
    assert expand("$SOME_FOLDER/a", key="storage.path") == f"{tmp_path}/a"
    assert expand("~/a", key="storage.path") == "/home/somebody/a"
    assert expand("s3://bucket/a", key="storage.path") == "s3://bucket/a"
    with pytest.raises(InputError, match=r"storage.path.*NO_SUCH"):
        expand("${NO_SUCH}/a", key="storage.path")


@pytest.mark.parametrize("mean", [0.5, 1, [0.5], [0.1, 0.2, 0.3]])
def test_one_number_stands_for_all_channels_and_the_schema_says_so(file, mean):
    config = load_config(file, [f"teacher.mean={mean}"])
    assert config.teacher.mean == tuple(mean if isinstance(mean, list) else [mean])
    tree = {"name": "run", "teacher": {**MINIMAL["teacher"], "mean": mean}}
    jsonschema.validate(tree, Config.model_json_schema())


@pytest.mark.parametrize(
    "change",
    [
        {"preset": "paper/imagenet"},
        {"sweep": {"preset": "lambda9"}},
        {"evaluation": {"attacks": [{"name": "pdg"}]}},
        {"evaluation": {"data": {"name": "cifar-10"}}},
    ],
)
def test_the_schema_knows_the_names_that_there_are(change):
    schema = Config.model_json_schema()
    jsonschema.validate(MINIMAL | {"preset": "paper/l2", "sweep": {"preset": None}}, schema)
    attacks = {"evaluation": {"attacks": [{"name": "pgd", "eps": 1}]}}
    jsonschema.validate(MINIMAL | attacks, schema)
    with pytest.raises(jsonschema.ValidationError, match="is not one of"):
        jsonschema.validate(MINIMAL | change, schema)


def test_the_schema_describes_each_section():
    schema = json.loads(json.dumps(Config.model_json_schema()))
    assert set(schema["properties"]) >= {"name", "seed", "seeds", "teacher", "threat", "training"}
    for name, definition in schema["$defs"].items():
        assert definition["additionalProperties"] is False, name


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"teacher": {"input_shape": [3, 32]}}, "teacher.input_shape: a list of 3 numbers was"),
        ({"teacher": {"input_shape": [3] * 4}}, "teacher.input_shape: a list of 3 numbers was"),
        ({"teacher": {"input_shape": "3x32x32"}}, "teacher.input_shape: a list of 3 numbers was"),
        ({"teacher": {"mean": "grey"}}, "teacher.mean: a list was expected"),
        ({"teacher": {"mean": True}}, "teacher.mean: a list was expected"),
        ({"teacher": {"mean": 127}}, "teacher.mean.0: 127.0 must lie in [0, 1]"),
        ({"teacher": {"std": []}}, "teacher.std:"),
        ({"seed": True}, "seed:"),
        ({"seeds": [0, True]}, "seeds.1:"),
        ({"training": {"learning_rate": 2e6}}, "training.learning_rate:"),
        ({"synthesis": {"learning_rate": 2e6}}, "synthesis.method.learning_rate:"),
        ({"threat": {"step_size": 0}}, "threat.step_size: 0 must be above 0"),
        (
            {"training": {"inner": {"step_size": "0/255"}}},
            "training.inner.step_size: '0/255' must be above",
        ),
        ({"threat": {"eps": "1e400"}}, "threat.eps: '1e400'"),
        ({"threat": {"eps": "1e999999999"}}, "threat.eps: '1e999999999'"),
        ({"threat": {"eps": 10**400}}, "threat.eps: 1000"),
        ({"threat": {"eps": "1" * 400 + "/1"}}, "threat.eps: '111"),
        (
            {"synthesis": {"coefficients": {"rule": "fixed", "shift": 1}}},
            "synthesis.method.coefficients.rule: 'fixed' draws nothing",
        ),
        (
            {"evaluation": {"attacks": [{"name": "fgsm", "norm": "l2"}]}},
            "evaluation.attacks.0.eps: give eps, since norm l2 differs from the threat's linf",
        ),
        ({"teacher": {"weights": None}}, "teacher: give either weights"),
        (
            {"teacher": {"source": "python:a:b", "train": {"data": {"name": "digits"}}}},
            "teacher: give either weights",
        ),
    ],
)
def test_refused_in_one_line_that_names_the_key(sections, said):
    teacher = {**MINIMAL["teacher"], **sections.get("teacher", {})}
    with pytest.raises(InputError) as caught:
        config_from({**MINIMAL, **sections, "teacher": teacher})
    message = str(caught.value)
    assert message.startswith(f"config: {said}")
    assert "\n" not in message
    assert message.count(said) == 1


def test_a_factory_may_bring_its_weights():
    teacher = {"source": "python:a:b", "mean": [0.5], "std": [0.5]}
    config = config_from({"name": "run", "teacher": teacher})
    assert config.teacher.weights is None
    assert config.teacher.train is None


def test_another_norm_with_its_eps_is_taken():
    attack = {"name": "pgd", "norm": "l2", "eps": "128/255"}
    config = config_from({**MINIMAL, "evaluation": {"attacks": [attack, {"name": "fgsm"}]}})
    assert config.evaluation.attacks[0].options["norm"] == "l2"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: a\nname: b\n", r"the key 'name' is given twice \(line 2\)"),
        ("name: a\nthreat: {eps: 0, eps: 1}\n", "the key 'eps' is given twice"),
        ("name: !!int a\n", "not valid YAML: invalid literal for int"),
    ],
)
def test_yaml_that_means_nothing(tmp_path, text, said):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        load_config(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_merge_keys_of_yaml_may_be_overlaid(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(
        "name: a\nteacher: &t {source: 'medmnist:resnet18', weights: a.pt}\n"
        "threat: &e {eps: 1/255, norm: linf}\n"
    )
    text = path.read_text() + "synthesis: {coefficients: {<<: &c {shift: 1.0}, shift: 2.0}}\n"
    path.write_text(text)
    assert load_config(path).synthesis.method.coefficients["shift"] == 2


@pytest.mark.parametrize(
    ("override", "said"),
    [("seed=!!int a", "seed=!!int a"), ("threat={eps: 0, eps: 1}", "'eps' is given twice")],
)
def test_overrides_that_are_no_yaml(file, override, said):
    with pytest.raises(InputError, match=said):
        load_config(file, [override])


def test_home_of_nobody():
    with pytest.raises(InputError, match=r"storage\.path: '~nouser-here/x' names the home"):
        expand("~nouser-here/x", key="storage.path")
