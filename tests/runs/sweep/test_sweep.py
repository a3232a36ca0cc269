"""Sweeps in one process: one data set, errors as results, going on, what is written and told."""

import json
import shutil

import pyarrow.csv
import pyarrow.parquet
import pytest
from tiny_run import call, events, run_of, stamps, succeed, write_config
from tiny_sweep import AXES, LAMBDA1, SHORT, TAU, records, sweep_config, sweep_of

from dfshield.errors import UnfitDeviceError
from dfshield.runs.sweep import trial as trial_module
from dfshield.storage import Folder


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A configuration whose sweep is done; not to be changed."""
    config = sweep_config(tmp_path_factory.mktemp("swept"), sweep__seeds=[0, 1])
    succeed("sweep", config)
    return config


def test_every_setting_is_trained_with_every_seed_on_one_data_set(swept):
    found = records(swept)
    assert set(found) == {(s, t, lam) for s in (0, 1) for t in (0, 0.5) for lam in (0, 1)}
    assert all(r["state"] == "done" and r["epochs"] == 2 for r in found.values())
    assert all(set(r["test"]) == {"clean", "PGD-3"} for r in found.values())
    assert len(events(run_of(swept), "synthesis_started")) == 1
    assert not (sweep_of(swept) / "sets").exists()


def test_a_trial_equals_a_run_of_its_own(swept, tmp_path):
    config = write_config(
        tmp_path, training__gradrefine__tau=0.0, training__objective={"lambda1": 0}
    )
    succeed("run", config)
    (trial,) = (sweep_of(swept) / "trials").glob("tau-0.0_lambda1-0.0_seed-0-*")
    for name in ("model.safetensors", "history.json"):
        assert (trial / "student" / name).read_bytes() == (
            run_of(config) / "student" / name
        ).read_bytes()


def test_the_same_command_does_nothing_when_all_is_done(swept):
    before = stamps(sweep_of(swept) / "trials")
    succeed("sweep", swept)
    assert stamps(sweep_of(swept) / "trials") == before


def test_results_hold_every_setting_and_figure(swept):
    table = pyarrow.parquet.read_table(sweep_of(swept) / "results.parquet").to_pylist()
    assert len(table) == 8
    found = records(swept)
    for row in table:
        record = found[row["training_seed"], row[TAU], row[LAMBDA1]]
        assert row["test.PGD-3"] == record["test"]["PGD-3"]
        assert row["holdout.agreement_pgd"] == record["holdout"]["agreement_pgd"]
        assert row["seconds"] > 0
        assert (row["training.epochs"], row["threat.eps"], row["seed"]) == (2, 0.1, 0)
    csv = pyarrow.csv.read_csv(sweep_of(swept) / "results.csv")
    assert csv.column_names == list(table[0])
    assert csv.num_rows == 8


def test_status_tells_trials_by_state_and_the_best(swept):
    state = json.loads(succeed("status", sweep_of(swept), "--json").out)
    assert state["trials"] == {"done": 8, "waiting": 0}
    assert state["total"] == 8
    scores = {}
    for (_, *values), record in records(swept).items():
        scores.setdefault(tuple(values), []).append(record["holdout"]["agreement_pgd"])
    assert state["best"]["score"] == pytest.approx(max(sum(s) / 2 for s in scores.values()))
    told = succeed("status", sweep_of(swept)).out
    assert "Best so far: tau=" in told
    assert "agreement_pgd" in told


def test_values_that_are_added_are_trained_and_no_others(swept, tmp_path):
    shutil.copytree(run_of(swept), tmp_path / "runs" / "tiny")
    axes = {**AXES, TAU: {"grid": [0, 0.5, 1]}}
    config = sweep_config(tmp_path, sweep__parameters=axes, sweep__seeds=[0, 1])
    old = records(config)
    succeed("sweep", config)
    new = records(config)
    assert len(new) == 12
    assert {key: new[key] for key in old} == old


def test_other_settings_are_refused_by_name(swept):
    refused = call("sweep", swept, "training.epochs=3").refusal()
    assert "training.epochs: 2 → 3" in refused
    assert "sweep.name=" in refused


@pytest.mark.drill
def test_images_that_are_only_in_memory_give_the_same_students(swept, tmp_path):
    config = sweep_config(tmp_path, storage__sink="object_store")
    succeed("sweep", config)
    assert not list((run_of(config) / "synthetic").rglob("*.parquet"))
    found, expected = records(config), records(swept)
    assert len(found) == 4
    for key, record in found.items():
        assert record["test"] == expected[key]["test"]
        assert record["holdout"] == expected[key]["holdout"]


@pytest.mark.drill
def test_a_sweep_lives_on_a_store(swept, s3, tmp_path):
    config = sweep_config(tmp_path, storage__path="s3://bucket/runs")
    succeed("sweep", config)
    sweep = "s3://bucket/runs/tiny/sweeps/sweep"
    folder, expected = Folder.at(sweep), records(swept)
    trials = [name for name in folder.list("trials") if name.endswith("trial.json")]
    before = {name: folder.read_bytes(name) for name in trials}
    assert len(trials) == 4
    for name in trials:
        record = folder.read_json(name)
        assert record["test"] == expected[record["seed"], *record["values"].values()]["test"]
    state = json.loads(succeed("status", sweep, "--json").out)
    assert state["trials"] == {"done": 4, "waiting": 0}
    assert folder.exists("results.parquet")
    assert folder.exists("report/index.html")
    succeed("sweep", config)
    assert {name: folder.read_bytes(name) for name in trials} == before


def test_a_trial_that_diverges_is_a_result_and_can_be_tried_again(tmp_path):
    axes = {"training.learning_rate": {"grid": [0.01, 1e6]}}
    config = sweep_config(tmp_path, sweep__parameters=axes)
    answer = succeed("sweep", config)
    good, bad = sorted(
        records(config).values(), key=lambda r: r["values"]["training.learning_rate"]
    )
    assert good["state"] == "done"
    assert bad["state"] == "failed"
    assert "diverge" in bad["reason"]
    assert "failed" in answer.out
    state = json.loads(succeed("status", sweep_of(config), "--json").out)
    assert state["trials"]["failed"] == 1
    before = bad["started"]
    succeed("sweep", config)
    assert records(config)[0, 1e6]["started"] == before
    seconds = bad["seconds"]
    succeed("sweep", config, "--retry-failed")
    assert records(config)[0, 1e6]["seconds"] > seconds


def test_memory_that_runs_out_is_a_result(tmp_path, monkeypatch):
    def full(*_, **__):
        raise MemoryError("out of memory")

    config = sweep_config(tmp_path)
    monkeypatch.setattr(trial_module, "_train_and_measure", full)
    succeed("sweep", config)
    assert {r["state"] for r in records(config).values()} == {"failed"}
    assert {r["reason"] for r in records(config).values()} == {"out of memory"}


def test_a_gpu_that_is_full_is_none_and_the_next_command_goes_on(tmp_path, monkeypatch):
    config = sweep_config(tmp_path, sweep__parameters=SHORT)
    usual, calls = trial_module._train_and_measure, []

    def full_once(*args, **kwargs):
        calls.append(args)
        if len(calls) == 1:
            raise UnfitDeviceError("out of GPU memory (Tried to allocate 2 GiB): do this")
        return usual(*args, **kwargs)

    monkeypatch.setattr(trial_module, "_train_and_measure", full_once)
    answer = succeed("sweep", config)
    assert "out of GPU memory (Tried to allocate 2 GiB): do this; the next command" in answer.err
    states = sorted(record["state"] for record in records(config).values())
    assert states == ["done"] * (len(states) - 1) + ["running"]
    succeed("sweep", config)
    assert {record["state"] for record in records(config).values()} == {"done"}
    assert len(calls) == len(states) + 1


def test_selecting_by_test_images_is_asked_for_and_told(tmp_path):
    config = sweep_config(
        tmp_path, sweep__parameters=SHORT, sweep__select_on="test", sweep__name="honest"
    )
    answer = succeed("sweep", config)
    assert "optimistic" in answer.out
    csv = pyarrow.csv.read_csv(sweep_of(config, "honest") / "results.csv").to_pylist()
    assert {(row["select_on"], row["metric"]) for row in csv} == {("test", "PGD-3")}
    page = (sweep_of(config, "honest") / "report" / "index.html").read_text()
    assert "Chosen by real test accuracy" in page
    said = json.loads(succeed("sweep", config, "--json").out)
    assert (said["select_on"], len(said["trials"])) == ("test", 2)
    state = json.loads(succeed("status", sweep_of(config, "honest"), "--json").out)
    assert (state["select_on"], state["metric"]) == ("test", "PGD-3")
    wrong = call("sweep", config, "sweep.metric=PGD-20").refusal()
    assert "known: clean, PGD-3" in wrong


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("sweep.scheduler=asha", "sweep.scheduler: asha needs Ray"),
        ("sweep.workers_per_trial=2", "sweep.workers_per_trial: 2 needs Ray"),
    ],
)
def test_what_needs_ray_says_so(tmp_path, setting, named):
    assert named in call("sweep", sweep_config(tmp_path), setting).refusal()


def test_a_damaged_record_is_named(swept, tmp_path):
    shutil.copytree(run_of(swept), tmp_path / "runs" / "tiny")
    config = sweep_config(tmp_path, sweep__seeds=[0, 1])
    file = next((sweep_of(config) / "trials").glob("*/trial.json"))
    file.write_text("{")
    assert str(file) in call("sweep", config).refusal()
    assert str(file) in call("status", sweep_of(config)).refusal()


def test_a_budget_of_hours_leaves_the_rest_to_the_next_command(tmp_path):
    config = sweep_config(tmp_path, sweep__parameters=SHORT)
    answer = succeed("sweep", config, "sweep.max_hours=1e-9")
    assert "sweep.max_hours are over" in answer.err
    assert records(config) == {}
    succeed("sweep", config)
    assert len(records(config)) == 2
