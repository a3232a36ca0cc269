"""``--plan``: what it tells, that it writes nothing, and that its forecast is not far off."""

import json

import pytest
import torch
from tiny_run import call, contents, run_of, succeed

from dfshield.config import load_config
from dfshield.engine.trial import Trial
from dfshield.runs import Engine, InProcessExecutor, PlanJob, SilentMonitor, engines_here
from dfshield.runs.driver import engine_trial


@pytest.fixture
def config(tiny):
    return tiny(keep=("teacher",), synthesis__iterations=400)


@pytest.mark.parametrize(("stage", "unit"), [("synthesize", "part"), ("train", "update")])
def test_a_plan_is_told_and_nothing_written(config, stage, unit):
    before = contents(run_of(config))
    answer = succeed(stage, config, "--plan")
    for told in ("Device", "cpu", "float32", "Compiled", "Batches per pass", f"Time per {unit}"):
        assert told in answer.out
    assert contents(run_of(config)) == before


def test_a_plan_follows_the_configuration(config):
    asked = "synthesis.engine={precision: bfloat16, batches_per_pass: 2}"
    plan = json.loads(succeed("synthesize", config, asked, "--plan", "--json").out)
    assert plan["engine"]["precision"] == "bfloat16"
    assert plan["engine"]["batches_per_pass"] == 2
    assert plan["units"] == 3  # 80 and 20 images in parts of 40
    trained = json.loads(succeed("train", config, "--plan", "--json").out)
    assert trained["units"] == 4  # 2 epochs of 4 mini-batches, 2 of them an update
    for told in (plan, trained):
        assert 0 < told["seconds_per_unit"] <= told["seconds"]


def test_a_worker_plans_under_the_engine_of_its_cluster_and_holds_the_trial(config, monkeypatch):
    asked = []

    def tried(*_, num_workers, **__):
        asked.append((num_workers, torch.get_num_threads()))
        return Trial({}, iterations=1, plain_seconds=1)

    monkeypatch.setattr(engine_trial, "COMPILING_PAYS", 0.0)
    monkeypatch.setattr(engines_here, "synthesis_trial", tried)
    here = Engine("cpu", 1, torch.__version__)
    job = PlanJob(
        load_config(str(config), ("synthesis.engine.precision=float32",)), "synthesize", here, 3
    )
    plan = InProcessExecutor().run(job, engine=here, monitor=SilentMonitor())
    assert asked == [(3, 1)]
    assert plan.engine.threads == 1


def test_without_a_teacher_nothing_can_be_measured(tiny):
    assert "run `dfshield teacher` first" in call("train", tiny(keep=()), "--plan").refusal()
