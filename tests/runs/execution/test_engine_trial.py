"""When an engine trial is held, what follows from its verdict, and who is told of it."""

import json

import pytest
import torch
from stopped import run_stopped
from tiny_run import call, contents, parts, run_of, succeed

import dfshield.runs.driver.engine_trial as driver
import dfshield.runs.work.engine_trial as work
from dfshield.config import EngineConfig, load_config
from dfshield.engine.acceleration import Acceleration
from dfshield.engine.trial import RungReport, Trial
from dfshield.errors import DfshieldError
from dfshield.runs import Engine, InProcessExecutor, Run
from dfshield.runs.driver.engine_trial import tried_engine
from dfshield.runs.execution.engine_choice import COMPILING_PAYS
from dfshield.runs.watching.events import SilentObserver
from dfshield.runs.work.engine_trial import SynthesisTrialJob, TrainingTrialJob, accelerations

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
def nothing_compiled(monkeypatch):
    """The one way that is tried computes what the plain one does."""
    monkeypatch.setattr(work, "accelerations", lambda *_: [Acceleration()])


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
    """Works here, but for trials, whose verdicts are given."""

    def __init__(self, *verdicts):
        self.verdicts = list(verdicts)

    def run(self, job, *, engine, monitor):
        if isinstance(job, SynthesisTrialJob | TrainingTrialJob):
            return self.verdicts.pop()
        return super().run(job, engine=engine, monitor=monitor)


class Killed(Verdicts):
    """Is killed as a training begins."""

    def run_group(self, job, *, engine, monitor):
        raise KeyboardInterrupt


class Stopped(Verdicts):
    """Is asked to stop as a training begins: it writes a checkpoint."""

    def run_group(self, job, *, engine, monitor):
        run_stopped(self, job, engine=engine, monitor=monitor, stop_requested=lambda: True)


def student_record(config):
    return json.loads((run_of(config) / "student" / "stage.json").read_text())


def is_told(config):
    """That ``train --plan`` tells the verdict of a training that has begun."""
    plan = json.loads(succeed("train", config, "--plan", "--json").out)
    return (plan["engine"]["precision"], plan["engine_trial"]) == ("bfloat16", as_json(FASTER))


def as_json(trial):
    return json.loads(json.dumps(trial.to_json()))


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


@pytest.mark.parametrize("ended", [Killed, Stopped])
def test_a_training_goes_on_under_its_verdict_without_another_trial(
    tiny, every_work_is_long, ended
):
    config = tiny(keep=("teacher", "synthetic"))
    settings = load_config(str(config), ())
    with pytest.raises(KeyboardInterrupt):
        Run(settings, executor=ended(FASTER)).run(["train"])
    assert student_record(config)["engine"]["precision"] == "bfloat16"
    assert is_told(config)
    Run(settings, executor=Verdicts()).run(["train"])  # has no verdict to give
    record = student_record(config)
    assert record["done"]
    assert record["engine_trial"] == as_json(FASTER)
    assert is_told(config)
    other = tiny(name="other", keep=("teacher", "synthetic"))
    Run(load_config(str(other), ()), executor=Verdicts(FASTER)).run(["train"])
    weights = [run_of(c) / "student" / "model.safetensors" for c in (config, other)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    succeed("report", config)
    page = (run_of(config) / "report" / "index.html").read_text()
    assert "bfloat16: chosen; 100 ms, 4.00 times as fast" in page


def test_a_training_that_is_to_be_in_float32_does_not_take_another_verdict(
    tiny, every_work_is_long
):
    config = tiny(keep=("teacher", "synthetic"))
    stopped = Run(load_config(str(config), ()), executor=Killed(FASTER))
    with pytest.raises(KeyboardInterrupt):
        stopped.run(["train"])
    asked = load_config(str(config), ("training.engine.precision=float32",))
    Run(asked, executor=Verdicts(WRONG)).run(["train"])
    assert student_record(config)["engine"]["precision"] == "float32"
    assert student_record(config)["engine_trial"] == as_json(WRONG)


def test_all_seeds_of_a_run_have_one_verdict(tiny, every_work_is_long):
    config = tiny(keep=("teacher",), seeds=[0, 4])
    executor = Verdicts(WRONG, FASTER)  # of the training, and before it of the synthesis
    Run(load_config(str(config), ()), executor=executor).run(["synthesize", "train"])
    for seed in (0, 4):
        of_seed = run_of(config) / f"seed-{seed}"
        manifest = json.loads((of_seed / "synthetic" / "manifest.json").read_text())
        record = json.loads((of_seed / "student" / "stage.json").read_text())
        assert manifest["engine"]["precision"] == "bfloat16"
        assert manifest["engine_trial"] == as_json(FASTER)
        assert record["engine"]["precision"] == "float32"
        assert record["engine_trial"] == as_json(WRONG)


def test_a_real_trial_of_a_training_compares_it_with_itself(
    tiny, every_work_is_long, nothing_compiled
):
    config, told = tiny(keep=("teacher", "synthetic")), Told()
    Run(load_config(str(config), ()), observer=told).run(["train"])
    record = student_record(config)
    trial = record["engine_trial"]
    assert trial["iterations"] == 2 * 80 / 40
    (rung,) = trial["rungs"]
    assert "as fast" in rung["reason"] or "to begin" in rung["reason"]  # right, but not faster
    assert record["engine"]["compiled"] is False
    (warning,) = [line for line in told.lines if line.startswith("Warning:")]
    assert "the plain way is taken" in warning


def test_a_training_without_a_verdict_has_a_record_as_ever(finished):
    record = json.loads((finished / "runs" / "tiny" / "student" / "stage.json").read_text())
    assert set(record) == {"format_version", "identity", "done", "engine", "summary", "files"}


def test_doctor_holds_the_trials_alone_and_writes_nothing(tiny, nothing_compiled):
    config = tiny(keep=("teacher", "synthetic"))
    before = contents(run_of(config))
    trials = json.loads(succeed("doctor", "--trial", config, "--json").out)
    assert list(trials) == ["synthesize", "train"]
    for trial in trials.values():
        assert trial["rungs"][0]["name"] == "float32"
        assert trial["plain_seconds"] > 0
    table = succeed("doctor", "--trial", config).out
    assert "synthesize: engine trial" in table
    assert "train: engine trial" in table
    assert contents(run_of(config)) == before


def test_doctor_says_where_there_is_nothing_to_try(tiny):
    answer = succeed(
        "doctor", "--trial", tiny(keep=("teacher",)), "synthesis.method={name: qimera}"
    )
    assert "synthesize: there is nothing to try" in answer.out
    assert "train: there is nothing to try" in answer.out
    assert "takes surrogate images, of which there are none yet" in answer.err


def test_doctor_needs_a_run_to_hold_a_trial_of(tiny):
    assert "--trial: name the YAML file" in call("doctor", "--trial").refusal()
    assert "run `dfshield teacher` first" in call("doctor", "--trial", tiny(keep=())).refusal()
