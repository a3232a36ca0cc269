"""The command ``methods``, and what every command says of a method that is wrong."""

import json

import pytest
from tiny_run import call, contents, run_of, succeed, write_config

from dfshield.attacks import ATTACKS
from dfshield.config import FAMILIES


def test_every_variant_is_listed_with_options_and_defaults():
    lines = succeed("methods").out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == list(FAMILIES)
    for load in FAMILIES.values():
        family = load()
        for name in family:
            place = lines.index(f"  {name}: {family.summary(name)}")
            for option in family.options(name):
                assert option.name in lines[place + 1]
    pgd = lines[lines.index(f"  pgd: {ATTACKS.summary('pgd')}") + 1]
    assert "eps (from the run), num_steps=20, step_size=null, restarts=1, random_start=true" in pgd


def test_one_family_comes_with_what_its_options_mean():
    lines = succeed("methods", "objectives").out.splitlines()
    assert lines[0] == "objectives"
    assert "    beta=6.0: weight of the smoothness term." in lines
    assert "attacks" not in lines


def test_the_json_holds_the_same():
    listed = json.loads(succeed("methods", "--json").out)
    assert listed.keys() == FAMILIES.keys()
    assert listed["attacks"].keys() == set(ATTACKS)
    steps = listed["attacks"]["pgd"]["options"]["num_steps"]
    assert (steps["default"], steps["type"], steps["required"]) == (20, "integer", False)
    assert steps["description"].startswith("number of gradient steps")
    assert json.loads(succeed("methods", "trackers", "--json").out) == {
        "trackers": listed["trackers"]
    }


def test_a_terminal_is_shown_tables(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    shown = succeed("methods", "trackers").out
    assert "┃" in shown
    assert "experiment=null: its name." in shown


def test_an_unknown_family_is_one_line_with_the_nearest():
    line = call("methods", "atacks").refusal()
    assert line == "Error: FAMILY: 'atacks' is unknown: did you mean 'attacks'?"


@pytest.mark.parametrize(
    "command",
    [
        ["run"],
        ["teacher"],
        ["synthesize"],
        ["synthesize", "--plan"],
        ["train"],
        ["train", "--plan"],
        ["evaluate"],
        ["audit"],
        ["report"],
        ["sweep"],
        ["config", "show"],
    ],
    ids=" ".join,
)
def test_a_wrong_attack_is_one_line_of_every_command_before_any_work(tmp_path, command):
    config = write_config(tmp_path)
    for attack, said in (
        (
            "{name: pgd, num_stesp: 3}",
            "0.num_stesp: is no option of pgd: did you mean 'num_steps'?",
        ),
        ("{name: pgd, num_steps: 0}", "0.num_steps: 0 must be a whole number of at least 1"),
        ("pdg", "0.name: attack 'pdg' is unknown: did you mean 'pgd'?"),
    ):
        line = call(*command, config, f"evaluation.attacks=[{attack}]").refusal()
        assert f"evaluation.attacks.{said}" in line
    assert not run_of(config).exists() or not contents(run_of(config))


@pytest.mark.parametrize("command", ["evaluate", "audit"])
def test_a_wrong_attack_on_a_model_of_any_origin_is_one_line(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    model = ("--model", "python:nowhere:make", "--data", "digits")
    line = call(command, *model, "evaluation.attacks=[{name: pgd, num_stesp: 3}]").refusal()
    assert line.startswith("Error: options: evaluation.attacks.0.num_stesp: is no option of pgd")


def test_the_doctor_says_so_too(tmp_path):
    config = write_config(tmp_path)
    answer = call("doctor", config, "evaluation.attacks=[{name: pgd, num_stesp: 3}]", "--json")
    (told,) = [c["told"] for c in json.loads(answer.out) if c["verdict"] == "failed"]
    assert "evaluation.attacks.0.num_stesp: is no option of pgd: did you mean 'num_steps'?" in told
    assert answer.code == 3
