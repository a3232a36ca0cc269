"""A stage of one's own: one specification and one registration, and it is a stage like all."""

import json

import pytest
from tiny_run import call, events, run_of, stamps, succeed

from dfshield.errors import InputError
from dfshield.report import Section
from dfshield.runs import STAGES
from dfshield.runs.identity import identity_of
from dfshield.runs.records import claim, finish
from dfshield.runs.stages.stage import Line, Stage


def identity(context, seed):
    """What the stage's result depends on."""
    return identity_of(seed=seed, synthesis={"num_images": context.config.synthesis.num_images})


def weigh(context, seed):
    """Weigh the student."""
    folder = context.layout.folder("weigh", seed)
    record = claim(folder, identity(context, seed))
    if record["done"]:
        return
    weights = context.layout.student(seed).read_bytes("model.safetensors")
    folder.write_json("weight.json", len(weights))
    context.log.emit("weighed", seed=seed, size=len(weights))
    finish(folder, record, "weight.json", size=len(weights))


def section(context, seed):
    size = context.layout.folder("weigh", seed).read_json("weight.json")
    return Section("What it weighs", "In bytes.", ("model", "size"), (("student", f"{size}"),))


WEIGH = Stage(
    name="weigh",
    help="Weigh the student.\n\nExample: dfshield weigh examples/digits.yaml",
    folder="weight",
    run=weigh,
    result="Weight",
    needs=("train",),
    identity=identity,
    lines=lambda state: [Line("weigh", state["state"], f"{state.get('size', 0)} bytes")],
    section=section,
)


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setattr(STAGES, "_stages", dict(STAGES))
    STAGES.register(WEIGH)


def test_it_comes_behind_what_it_needs():
    assert list(STAGES) == ["teacher", "synthesize", "train", "weigh", "evaluate", "report"]


def test_it_is_run_once_and_told_everywhere(tiny):
    config = tiny()
    run = run_of(config)
    succeed("run", config)
    size = (run / "student" / "model.safetensors").stat().st_size
    assert json.loads((run / "weight" / "weight.json").read_text()) == size
    assert [e["event"] for e in events(run)][-2:] == ["weighed", "report"]

    state = json.loads(succeed("status", run, "--json").out)
    assert state["seeds"][0]["weigh"] == {"state": "done", "size": size}
    rows = [line for line in succeed("status", run).out.splitlines() if "weigh" in line]
    assert [("done" in row, f"{size} bytes" in row) for row in rows] == [(True, True)]
    page = (run / "report" / "index.html").read_text()
    assert "<h2>What it weighs</h2>" in page
    assert f"<td>{size}</td>" in page

    before = stamps(run / "weight")
    answer = succeed("weigh", config)
    assert answer.err.splitlines()[-1] == f"Weight: {run}/weight"
    assert stamps(run / "weight") == before
    assert len(events(run, "weighed")) == 1


def test_it_has_a_command_with_help():
    assert "weigh" in succeed("--help").out
    shown = succeed("weigh", "--help").out
    assert "Weigh the student." in shown
    assert "--json" in shown
    assert "--replan" not in shown
    assert "Do everything: teacher, synthesize, train, weigh, evaluate, report." in " ".join(
        succeed("run", "--help").out.split()
    )


def test_it_refuses_other_settings_and_waits_for_what_it_needs(tiny):
    config = tiny(keep=("teacher", "synthetic"))
    assert "holds no student yet: run `dfshield train` first" in call("weigh", config).refusal()
    config = tiny(name="whole")
    succeed("weigh", config)
    line = call("weigh", config, "synthesis.num_images=120").refusal()
    assert "synthesis.num_images: 80 → 120" in line


def test_it_is_done_for_each_seed(tiny):
    config = tiny(keep=("teacher",), seeds=[0, 5], evaluation__data=None)
    succeed("run", config)
    state = json.loads(succeed("status", run_of(config), "--json").out)
    assert [of_seed["weigh"]["state"] for of_seed in state["seeds"]] == ["done", "done"]
    page = (run_of(config) / "report" / "index.html").read_text()
    assert page.count("<h2>What it weighs, seed") == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"name": "train"}, "'train' is registered"), ({"needs": ("trian",)}, "did you mean 'train'")],
)
def test_a_stage_that_cannot_be_is_refused(changes, said):
    told = {"name": "other", "folder": "other", "help": "", "run": weigh}
    with pytest.raises(InputError, match=said):
        STAGES.register(Stage(**{**told, **changes}))
