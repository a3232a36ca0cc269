"""Killed and interrupted runs: the same command goes on, to the same bytes."""

import shutil
import signal
from pathlib import Path

import pytest
from tiny_run import (
    contents,
    ended,
    events,
    resuming_command,
    run_of,
    start,
    succeed,
    wait_until,
    write_config,
)

SLOW = {
    "synthesis__num_images": 160,
    "synthesis__iterations": 20,
    "training__inner": {"num_steps": 15},
    "training__epochs": 3,
}
NUM_PARTS, UPDATES_PER_EPOCH = 5, 4


def leftovers(config):
    return [name for name in contents(run_of(config)) if "tmp" in name]


@pytest.fixture(scope="module")
def uninterrupted(finished, tmp_path_factory):
    """The run folder that a slow configuration gives when nobody stops it."""
    config = write_config(tmp_path_factory.mktemp("uninterrupted"), **SLOW)
    teacher = Path("runs") / "tiny" / "teacher"
    shutil.copytree(finished / teacher, config.parent / teacher)
    succeed("synthesize", config)
    succeed("train", config)
    return run_of(config)


@pytest.fixture
def to_train(uninterrupted, tmp_path):
    """A function that gives a configuration whose run lacks only the student."""

    def make(name="stopped", **changes):
        config = write_config(tmp_path / name, **{**SLOW, **changes})
        for stage in ("teacher", "synthetic"):
            shutil.copytree(uninterrupted / stage, run_of(config) / stage)
        return config

    return make


@pytest.mark.slow
@pytest.mark.parametrize(
    ("select", "checkpoint_every", "average"),
    [("last", 3, "none"), pytest.param("holdout", 1, "ema", marks=pytest.mark.drill)],
)
def test_a_training_killed_between_two_updates_ends_with_the_same_student(
    to_train, uninterrupted, select, checkpoint_every, average
):
    changes = {
        "training__select": select,
        "training__checkpoint_every": checkpoint_every,
        "training__average": average,
    }
    stopped = to_train(**changes)
    run = run_of(stopped)

    def in_the_middle():
        done = events(run, "update")
        return done and (done[-1]["epoch"], done[-1]["update"]) == (1, 1)

    process = start("train", stopped)
    wait_until(in_the_middle, process)
    process.kill()
    assert ended(process).code == -signal.SIGKILL
    assert 0 < events(run, "update")[-1]["update"] < UPDATES_PER_EPOCH - 1
    assert not (run / "student" / "model.safetensors").exists()

    succeed("train", stopped)
    resumed = events(run, "training_started")[-1]
    assert 0 < resumed["updates"] < resumed["total"] == 3 * UPDATES_PER_EPOCH
    expected = uninterrupted
    if select != "last":
        expected = run_of(to_train("unstopped", **changes))
        succeed("train", expected.parents[1] / "tiny.yaml")
    assert contents(run / "student") == contents(expected / "student")


@pytest.mark.slow
@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.drill)]
)
def test_an_interrupted_training_saves_and_says_how_to_go_on(to_train, uninterrupted, number):
    stopped = to_train(training__checkpoint_every=1000)
    run = run_of(stopped)
    process = start("train", stopped, "evaluation.num_images=30")
    wait_until(lambda: events(run, "update"), process)
    process.send_signal(number)
    answer = ended(process)
    assert answer.code == 130
    assert "Traceback" not in answer.err
    assert not leftovers(stopped)
    done, (checkpoint,) = events(run, "update"), events(run, "checkpoint")
    assert UPDATES_PER_EPOCH * checkpoint["epoch"] + checkpoint["update"] == len(done)

    command = resuming_command(answer)
    assert command == ["train", str(stopped), "evaluation.num_images=30"]
    succeed(*command)
    assert len(events(run, "update")) == 3 * UPDATES_PER_EPOCH  # none was repeated
    assert contents(run / "student") == contents(uninterrupted / "student")


def test_a_run_made_in_stages_equals_one_made_whole(finished, tmp_path):
    config = write_config(tmp_path)
    for stage in ("teacher", "synthesize", "train", "evaluate", "report"):
        succeed(stage, config)
    whole, staged = (
        {k: v for k, v in contents(run).items() if not k.startswith("tensorboard/")}
        for run in (finished / "runs" / "tiny", run_of(config))
    )
    assert whole.keys() == staged.keys()
    told = ("report/", "evaluation/", "events.jsonl", "config.yaml", "student/README.md")
    for name in whole:
        if not name.startswith(told):  # these hold times and paths
            assert whole[name] == staged[name], name
