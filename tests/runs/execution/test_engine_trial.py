"""When an engine trial is held, what follows from its verdict, and who is told of it."""

import json

import pytest
import torch
from tiny_run import call, contents, parts, run_of, succeed

import dfshield.runs.driver.engine_trial as driver
import dfshield.runs.work.engine_trial as work
from dfshield.config import EngineConfig, load_config
from dfshield.engine.trial import RungReport, Trial
from dfshield.errors import DfshieldError
from dfshield.runs import Engine, InProcessExecutor, Run
from dfshield.runs.driver.engine_trial import tried_engine
from dfshield.runs.execution.engine_choice import COMPILING_PAYS
from dfshield.runs.watching.events import SilentObserver
from dfshield.runs.work.engine_trial import SynthesisTrialJob, accelerations

HERE = Engine(device="cpu", threads=2, torch=torch.__version__)
ROUNDED = {"precision": "bfloat16", "compiled": False}
FASTER = Trial(ROUNDED, 1e6, 0.4, (RungReport("bfloat16", "chosen", "", 60.0, 0.1, 4.0),))
WRONG = Trial({}, 1e6, 0.4, (RungReport("compiled float32", "failed", "not finite", 60.0),))
SHORT = Trial({}, 10.0, 0.4)


def decided(trial, *, options=None, work=COMPILING_PAYS, guess=HERE):
    """The engine by a verdict, or by the error of a trial, and what is said of it."""
    said, tried = [], []

    def try_ways(plain):
        tried.append(plain)
        if isinstance(trial, Exception):
            raise trial
        return trial

    options = options or EngineConfig()
    found = tried_engine(HERE, guess, options, work=work, try_ways=try_ways, say=said.append)
    return found, said, tried


def test_the_way_that_is_chosen_is_taken():
    found, said, _ = decided(FASTER)
    assert (found.engine.precision, found.engine.compiled) == ("bfloat16", False)
    assert found.trial == json.loads(json.dumps(FASTER.to_json()))
    assert said == ["Engine trial: bfloat16 is taken, 4.0 times as fast as the plain way"]


def test_where_none_passes_the_plain_way_is_taken_with_one_warning():
    found, said, _ = decided(WRONG, guess=Engine("cpu", 2, torch.__version__, compiled=True))
    assert found.engine == HERE
    assert found.trial["rungs"][0]["reason"] == "not finite"
    (line,) = said
    assert line.startswith("Warning: Engine trial: the plain way is taken; ")
    assert line.endswith("compiled float32: not finite")


def test_a_trial_that_its_worker_does_not_survive_leaves_the_plain_way():
    found, said, _ = decided(DfshieldError("worker 3 died"))
    assert (found.engine, found.trial) == (HERE, None)
    assert said == [
        "Warning: the engine trial failed (worker 3 died): the work is computed plainly"
    ]


@pytest.mark.parametrize("trial", [SHORT, None])
def test_work_that_is_short_when_measured_is_planned_as_without_a_trial(trial):
    guess = Engine("cpu", 2, torch.__version__, compiled=True)
    found, said, tried = decided(trial, guess=guess)
    assert (found.engine, found.trial, said, tried) == (guess, None, [], [HERE])


@pytest.mark.parametrize(
    ("options", "work"),
    [
        ({}, 0.9 * COMPILING_PAYS),
        ({"compile": True}, 1e30),
        ({"compile": False}, 1e30),
        ({"precision": "bfloat16"}, 1e30),
        ({"precision": "tf32"}, 1e30),
    ],
)
def test_nothing_is_tried_for_little_work_or_where_a_way_is_asked_for(options, work):
    found, said, tried = decided(FASTER, options=EngineConfig(**options), work=work)
    assert (found.engine, found.trial, said, tried) == (HERE, None, [], [])


def test_who_asks_for_float32_gets_no_other_precision_tried():
    asked = EngineConfig(precision="float32")
    assert [a.precision for a in accelerations(asked, torch.device("cpu"))] == ["float32"]


@pytest.fixture
def every_work_is_long(monkeypatch):
    monkeypatch.setattr(driver, "COMPILING_PAYS", 0.0)
    monkeypatch.setattr(work, "LONG", 0.0)


class Told(SilentObserver):
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


class Verdicts(InProcessExecutor):
    """Works here, but for the trial, whose verdict is given."""

    def __init__(self, *verdicts):
        self.verdicts = list(verdicts)

    def run(self, job, *, engine, monitor):
        if isinstance(job, SynthesisTrialJob):
            return self.verdicts.pop()
        return super().run(job, engine=engine, monitor=monitor)


def test_a_run_goes_on_under_the_verdict_without_another_trial(tiny, every_work_is_long):
    config = tiny(keep=("teacher",))
    settings, data = load_config(str(config), ()), run_of(config) / "synthetic"
    Run(settings, executor=Verdicts(FASTER)).run(["synthesize"])
    manifest = json.loads((data / "manifest.json").read_text())
    assert manifest["engine"]["precision"] == "bfloat16"
    assert manifest["engine_trial"] == json.loads(json.dumps(FASTER.to_json()))
    whole = {name: file.read_bytes() for name, file in parts(run_of(config)).items()}
    next(iter(parts(run_of(config)).values())).unlink()
    Run(settings, executor=Verdicts()).run(["synthesize"])  # has no verdict to give
    assert {name: file.read_bytes() for name, file in parts(run_of(config)).items()} == whole
    more = {"num_images": settings.synthesis.num_images + 40}
    larger = settings.model_copy(update={"synthesis": settings.synthesis.model_copy(update=more)})
    Run(larger, executor=Verdicts()).run(["synthesize"])
    grown = json.loads((data / "manifest.json").read_text())
    assert len(grown["parts"]) == len(manifest["parts"]) + 1
    assert grown["engine_trial"] == manifest["engine_trial"]
    plan = json.loads(succeed("synthesize", config, "--plan", "--json").out)
    assert plan["engine"]["precision"] == "bfloat16"
    assert plan["engine_trial"]["rungs"][0]["name"] == "bfloat16"
    assert "engine trial" in succeed("synthesize", config, "--plan").out
    answer = succeed("verify", run_of(config), "--resynthesize", "1000")
    assert "0 differ" in answer.out


def test_a_real_trial_of_short_work_falls_back_to_the_bytes_of_the_plain_way(
    tiny, finished, every_work_is_long
):
    config, told = tiny(keep=("teacher",)), Told()
    Run(load_config(str(config), ()), observer=told).run(["synthesize"])
    manifest = json.loads((run_of(config) / "synthetic" / "manifest.json").read_text())
    rungs = manifest.pop("engine_trial")["rungs"]
    assert all(rung["verdict"] == "failed" for rung in rungs)
    assert all("to begin" in r["reason"] or "as fast" in r["reason"] for r in rungs)
    (warning,) = [line for line in told.lines if line.startswith("Warning:")]
    assert "the plain way is taken" in warning
    untried = finished / "runs" / "tiny"
    assert manifest == json.loads((untried / "synthetic" / "manifest.json").read_text())
    for name, file in parts(untried).items():
        assert parts(run_of(config))[name].read_bytes() == file.read_bytes()


def test_doctor_holds_the_trial_alone_and_writes_nothing(tiny):
    config = tiny(keep=("teacher",))
    before = contents(run_of(config))
    trial = json.loads(succeed("doctor", "--trial", config, "--json").out)
    assert trial["rungs"][0]["name"] == "compiled float32"
    assert trial["plain_seconds"] > 0
    table = succeed("doctor", "--trial", config, "synthesis.method={name: qimera}").out
    assert "nothing to try" in table
    assert contents(run_of(config)) == before


def test_doctor_needs_a_run_to_hold_a_trial_of(tiny):
    assert "--trial: name the YAML file" in call("doctor", "--trial").refusal()
    assert "run `dfshield teacher` first" in call("doctor", "--trial", tiny(keep=())).refusal()
