"""The command line itself: help, version, JSON, status, configuration commands."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tiny_run import call, ended, run_of, start, succeed, wait_until

from dfshield import __version__
from dfshield.config import load_config

COMMANDS = [
    ["run"],
    ["teacher"],
    ["synthesize"],
    ["train"],
    ["evaluate"],
    ["audit"],
    ["diversity"],
    ["figure", "grid"],
    ["figure", "pca"],
    ["fit-defence", "diffpure"],
    ["fit-defence", "dad"],
    ["report"],
    ["status"],
    ["verify"],
    ["export-data"],
    ["methods"],
    ["paper"],
    ["config", "schema"],
    ["config", "show"],
]
PROGRAM = str(Path(sys.executable).with_name("dfshield"))


def test_help_answers_within_half_a_second():
    def seconds():
        """Of a processor: beside other work the clock tells what that takes."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([PROGRAM, "--help"], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(5)) < 0.5


def test_help_imports_nothing_heavy():
    code = """
import sys
from dfshield.cli.main import main
sys.argv = ["dfshield", "--help"]
try:
    main()
finally:
    heavy = {"torch", "ray", "pyarrow", "numpy", "pydantic", "sklearn", "matplotlib"}
    print("HEAVY", sorted(heavy & sys.modules.keys()), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "HEAVY []"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_shows_an_example(command):
    answer = succeed(*command, "--help")
    assert f"Example: dfshield {' '.join(command)}" in " ".join(answer.out.split())


def test_help_names_every_command():
    listed = succeed("--help").out
    for command in {command[0] for command in COMMANDS}:
        assert command in listed


def test_version():
    assert succeed("--version").out == f"dfshield {__version__}\n"


@pytest.mark.drill
def test_json_stands_alone_on_standard_output(tiny):
    config = tiny()
    answer = succeed("evaluate", config, "--json")
    value = json.loads(answer.out)
    assert {(r["model"], r["label"]) for r in value["results"]} == {
        (model, attack) for model in ("teacher", "student") for attack in ("clean", "PGD-3")
    }
    for result in value["results"]:
        low, high = result["interval"]
        assert low <= result["accuracy"] <= high
        assert result["num_images"] == 40
    for command in (["run"], ["teacher"], ["synthesize"], ["train"]):
        again = json.loads(succeed(*command, config, "--json").out)
        assert again["status"]["run"] == value["status"]["run"]
        assert 0.1 < again["status"]["teacher"]["validation_accuracy"] <= 1


def test_the_table_shows_what_the_json_says(tiny):
    config = tiny()
    results = json.loads(succeed("evaluate", config, "--json").out)["results"]
    table = succeed("evaluate", config).out
    for result in results:
        assert f"{result['accuracy']:.1%}" in table
    assert f"{results[0]['floor']:.1%}" in table


def test_status_before_and_after(tiny):
    config = tiny(keep=("teacher",))
    run = run_of(config)
    assert "not a run folder" in call("status", run).refusal()
    succeed("teacher", config)
    state = json.loads(succeed("status", run, "--json").out)
    assert state["teacher"]["state"] == "done"
    (seed,) = state["seeds"]
    assert (seed["synthesize"]["state"], seed["train"]["state"]) == ("pending", "pending")
    assert state["report"] is False

    succeed("run", config)
    state = json.loads(succeed("status", run, "--json").out)
    (seed,) = state["seeds"]
    counts = {"parts": 3, "parts_done": 3, "images": 100, "images_done": 100, "retries": 0}
    synthesis = {"state": "done", "sink": "parquet", **counts, "running": [], "failed": []}
    assert synthesis.items() <= seed["synthesize"].items()
    (worker,) = seed["synthesize"]["workers"]
    assert (worker["worker"], worker["images"], worker["state"]) == ("driver", 100, "idle")
    assert state["driver"] == {"state": "none"}
    assert state["deaths"] == []
    assert seed["train"]["state"] == "done"
    assert seed["train"]["updates"] == 4
    assert len(seed["evaluate"]) == 4
    assert state["report"] is True
    assert state["last_event"]["event"] == "report"
    shown = succeed("status", run).out
    assert "3/3 parts" in shown
    assert "4 of 4 updates, epoch 2, loss" in shown


def test_status_of_a_finished_data_set_that_lost_a_part(tiny):
    run = run_of(tiny())
    next(run.rglob("part-0001.parquet")).unlink()
    synthesis = json.loads(succeed("status", run, "--json").out)["seeds"][0]["synthesize"]
    assert (synthesis["state"], synthesis["parts_done"], synthesis["parts"]) == ("begun", 2, 3)


@pytest.mark.slow
def test_status_while_a_synthesis_runs(tiny):
    config = tiny(keep=("teacher",), synthesis__num_images=160, synthesis__iterations=400)
    run = run_of(config)
    process = start("synthesize", config)
    try:
        wait_until(lambda: list(run.rglob("*.parquet")), process)
        state = json.loads(succeed("status", run, "--json").out)
        shown = succeed("status", run).out
        assert process.poll() is None
    finally:
        process.kill()
        ended(process)
    synthesis = state["seeds"][0]["synthesize"]
    assert synthesis["state"] == "begun"
    assert 1 <= synthesis["parts_done"] < synthesis["parts"] == 5
    assert state["driver"]["process"] == process.pid
    (running,) = synthesis["running"]
    (worker,) = synthesis["workers"]
    assert running["worker"] == worker["worker"] == "driver"
    assert running["part"] == worker["part"]
    assert synthesis["images_per_second"] == pytest.approx(worker["images_per_second"])
    remaining = synthesis["images"] - synthesis["images_done"]
    assert synthesis["eta_seconds"] == pytest.approx(
        remaining / synthesis["images_per_second"], rel=0.01
    )
    for words in (f"process {process.pid} on ", "is at work", "1 running", "left", "driver"):
        assert words in shown


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    for command in ("status", "verify"):
        for folder in (tmp_path, tmp_path / "nowhere"):
            assert str(folder) in call(command, folder).refusal()


def test_config_show_gives_what_it_was_given(tiny, tmp_path):
    config = tiny()
    shown = tmp_path / "shown.yaml"
    for overrides in ([], ["preset=paper/medical", "synthesis.num_images=80"], ["seeds=[1, 2]"]):
        shown.write_text(succeed("config", "show", config, *overrides).out)
        assert load_config(shown) == load_config(config, overrides)


def test_config_schema_knows_every_key(tiny):
    schema = json.loads(succeed("config", "schema").out)
    assert schema["required"] == ["name", "teacher"]
    assert schema["additionalProperties"] is False
    sections = yaml.safe_load(succeed("config", "show", tiny()).out)
    assert sections.keys() <= schema["properties"].keys()


@pytest.mark.parametrize("arguments", [["frobnicate"], ["run"], ["run", "x.yaml", "--jsn"]])
def test_a_command_that_does_not_exist_is_a_usage_error(arguments):
    answer = call(*arguments)
    assert answer.code == 2
    assert "Traceback" not in answer.err
    assert answer.err
