"""The configurations that are shipped as examples."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import yaml

from dfshield.config import Config, load_config
from dfshield.runs.inputs.attack_plans import attacks_of
from dfshield.runs.sweep import require_matrix
from dfshield.runs.sweep.plan import listed_trials, source_key

FOLDER = Path(__file__).parents[1] / "examples"
EXAMPLES = sorted(FOLDER.glob("*.yaml"))
SWEEPS = {"digits-lambda": 36, "digits-tau-k": 20}


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


def sweep_example(name, schema, *, command="sweep"):
    """Return the configuration of a sweep's example, checked, and that of the digits."""
    path = FOLDER / "sweeps" / f"{name}.yaml"
    assert f"dfshield {command} examples/sweeps/{path.name}" in path.read_text().splitlines()[0]
    schema.validate(yaml.safe_load(path.read_text()))
    config, plain = load_config(path), load_config(FOLDER / "digits.yaml")
    assert config.name == plain.name
    return config, plain


@pytest.mark.parametrize(("name", "num_trials"), SWEEPS.items())
def test_a_sweep_is_valid_and_shares_the_data_set_of_the_digits(name, num_trials, schema):
    config, plain = sweep_example(name, schema)
    trials = listed_trials(config)
    assert len(trials) == num_trials
    assert {source_key(trial.config) for trial in trials} == {source_key(plain)}


def test_the_matrix_is_valid_and_its_rows_share_their_images(schema):
    config, plain = sweep_example("digits-matrix", schema, command="matrix")
    require_matrix(config)
    trials = listed_trials(config)
    assert len(trials) == 6
    by_teacher = {(t.values["cases.teacher"], source_key(t.config)) for t in trials}
    assert len(by_teacher) == 2
    assert ("wide", source_key(plain)) in by_teacher


def test_the_methods_of_table_4_share_the_teacher_of_the_digits(schema):
    config, plain = sweep_example("digits-table4", schema)
    trials = listed_trials(config)
    assert len(trials) == 15
    assert {source_key(trial.config) for trial in trials} == {source_key(plain)}
    methods = {t.config.method.name if t.config.method else "ours" for t in trials}
    assert methods == {"ours", "dast", "dfme", "ait", "dfard"}


def test_the_objectives_are_compared_on_the_data_set_of_the_digits(schema):
    config, plain = sweep_example("digits-objectives", schema)
    trials = listed_trials(config)
    assert len(trials) == 27
    other = {t.values["cases.recipe"] for t in trials if source_key(t.config) != source_key(plain)}
    assert other == {"fixed-trades", "fixed-dfshield"}
    objectives = {t.config.training.objective.name for t in trials}
    assert objectives == {"std", "trades", "mart", "ard", "rslad", "soft-label"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_schema_accepts_an_example_and_refuses_a_typo(path, schema):
    tree = yaml.safe_load(path.read_text())
    schema.validate(tree)
    assert not schema.is_valid({**tree, "sythesis": {}})
    assert not schema.is_valid({**tree, "threat": {"epsilon": 0.1}})


def stated_results() -> dict[tuple[str, str], float]:
    """The figures of the digits in the README, as shares."""
    rows = (FOLDER.parent / "README.md").read_text().partition("\n## Results\n")[2].splitlines()
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows if row[:1] == "|"]
    (_, *attacks), _, *models = cells
    return {
        (model, attack): float(figure) / 100
        for model, *figures in models
        for attack, figure in zip(attacks, figures, strict=True)
    }


def run_example(name: str, *overrides: str, command: str = "run") -> dict[tuple[str, str], dict]:
    """Run a command on an example as a user would; return its results by model and attack."""
    done = subprocess.run(
        [Path(sys.executable).with_name("dfshield"), command, name, "--json", *overrides],
        cwd=EXAMPLES[0].parent,
        env={**os.environ, "OMP_NUM_THREADS": str(os.cpu_count())},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {(r["model"], r["label"]): r for r in json.loads(done.stdout)["results"]}


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.drill
@pytest.mark.parametrize("suite", [False, True])
def test_digits_are_hardened_without_the_digits(suite, tmp_path):
    """As they stand; AutoAttack is the drill's, for its time."""
    pgd = () if suite else ("evaluation.attacks=[{name: pgd, num_steps: 20}]",)
    results = run_example("digits.yaml", f"storage.path={tmp_path}", *pgd)
    assert results["teacher", "PGD-20"]["num_images"] >= 450
    assert results["teacher", "PGD-20"]["accuracy"] <= 0.25
    assert results["student", "PGD-20"]["accuracy"] >= 0.50
    assert results["student", "clean"]["accuracy"] >= 0.95
    stated = stated_results()
    assert len(stated) == 6
    # Other processors round otherwise and train another student; two measurements of 500 images
    # that differ by chance alone may lie six points apart.
    found = {key: result["accuracy"] for key, result in results.items()}
    assert len(found) == (6 if suite else 4)
    assert found == pytest.approx({key: stated[key] for key in found}, abs=0.1)
    for model in ("teacher", "student") if suite else ():
        assert results[model, "AutoAttack"]["accuracy"] <= results[model, "PGD-20"]["accuracy"]
        assert results[model, "AutoAttack"]["standard_suite"]
    history = json.loads((tmp_path / "digits/student/history.json").read_text())
    rates = [record["agreement_rate"] for record in history if "update" in record]
    assert min(rates) > 0
    assert max(rates) < 1
    assert (tmp_path / "digits/report/index.html").stat().st_size > 100_000


@pytest.mark.drill
@pytest.mark.timeout(3600)
def test_bfloat16_hardens_the_digits_as_float32_does(tmp_path):
    """Three seeds of each: what counts is the robust accuracy of the student."""
    fast = "{precision: bfloat16, compile: true}"
    robust, num_images = {"plain": [], "fast": []}, 0
    for seed in range(3):
        for kind, found in robust.items():
            engines = [f"{part}.engine={fast}" for part in ("synthesis", "training")]
            results = run_example(
                "digits.yaml",
                f"storage.path={tmp_path / kind}",
                f"seed={seed}",
                f"name=seed{seed}",
                "evaluation.models=[student]",
                "evaluation.attacks=[{name: pgd, num_steps: 20}]",
                *(engines if kind == "fast" else []),
            )
            found.append(results["student", "PGD-20"]["accuracy"])
            num_images += results["student", "PGD-20"]["num_images"]
    print(robust)
    mean = np.mean([*robust["plain"], *robust["fast"]])
    noise = np.sqrt(mean * (1 - mean) * 2 / (num_images / 2))
    assert abs(np.mean(robust["plain"]) - np.mean(robust["fast"])) <= 3 * noise


@pytest.mark.drill
@pytest.mark.ray
@pytest.mark.slow
def test_the_published_cifar10_resnet20_falls_to_autoattack(data_folder, tmp_path):
    options = (f"storage.path={tmp_path}", "evaluation.models=[teacher]")
    clean = run_example(
        "cifar10-resnet20.yaml", *options, "evaluation.attacks=[]", command="evaluate"
    )["teacher", "clean"]
    assert clean["num_images"] == 9968
    assert clean["accuracy"] == pytest.approx(0.917, abs=0.001)
    attacked = run_example(
        "cifar10-resnet20.yaml",
        *options,
        "evaluation.attacks=[{name: autoattack}]",
        "evaluation.num_images=64",
        command="evaluate",
    )["teacher", "AutoAttack"]
    assert attacked["eps"] == pytest.approx(4 / 255)
    assert attacked["num_correct"] <= 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "cluster",
    [
        ("cluster.address=none",),
        pytest.param((), marks=[pytest.mark.ray, pytest.mark.drill]),
    ],
)
def test_the_cifar10_example_runs_for_two_parts_and_two_updates(cluster, data_folder, tmp_path):
    results = run_example(
        "cifar10-resnet20.yaml",
        f"storage.path={tmp_path}",
        "synthesis.num_images=16",
        "synthesis.num_holdout=4",
        "synthesis.iterations=2",
        "synthesis.batch_size=4",
        "storage.part_size=8",
        "storage.shard_size=16",
        "training.epochs=1",
        "training.batch_size=4",
        "training.gradrefine.num_batches=2",
        "evaluation.num_images=8",
        "evaluation.attacks=[{name: pgd, num_steps: 2}]",
        *cluster,
    )
    assert results["student", "PGD-2"]["num_images"] == 8
    run = tmp_path / "cifar10-resnet20"
    assert len(list((run / "synthetic/data").rglob("*.parquet"))) == 2
    history = json.loads((run / "student/history.json").read_text())
    assert len([record for record in history if "update" in record]) == 2
