"""Killed and interrupted runs: the same command goes on, to the same bytes."""

import signal

import pytest
from tiny_run import (
    contents,
    ended,
    events,
    finish,
    parts,
    resuming_command,
    stamps,
    start,
    wait_until,
    write_config,
)

SLOW_SYNTHESIS = {"synthesis__num_images": 160, "synthesis__iterations": 150}
SLOW_TRAINING = {
    "synthesis__num_images": 160,
    "training__inner": {"steps": 60},
    "training__epochs": 3,
}
UPDATES_PER_EPOCH = 4


def run_of(config):
    return config.parent / "runs" / "tiny"


def data_of(config):
    """The surrogate data set's files, without those that tell the story of the run."""
    return contents(run_of(config) / "synthetic")


def leftovers(config):
    return [name for name in contents(run_of(config)) if "tmp" in name]


@pytest.fixture
def pair(tiny):
    """Two copies of a run that holds a teacher."""

    def make(**changes):
        return tuple(
            tiny(keep=("teacher",), name=name, **changes) for name in ("stopped", "uninterrupted")
        )

    return make


@pytest.mark.slow
def test_a_synthesis_killed_between_two_commits_loses_and_repeats_nothing(pair):
    stopped, uninterrupted = pair(**SLOW_SYNTHESIS)
    run = run_of(stopped)
    process = start("synthesize", stopped)
    wait_until(lambda: parts(run), process)
    process.kill()
    assert ended(process).code == -signal.SIGKILL
    committed = {name: stamp for name, stamp in stamps(run / "synthetic").items() if "part-" in name}
    assert 1 <= len(parts(run)) < 5

    finish("synthesize", stopped)
    assert len(parts(run)) == 5
    assert committed.items() <= stamps(run / "synthetic").items()
    finish("synthesize", uninterrupted)
    assert data_of(stopped) == data_of(uninterrupted)
    for config in (stopped, uninterrupted):
        finish("train", config)
    assert contents(run / "student") == contents(run_of(uninterrupted) / "student")
    assert "model.safetensors" in contents(run / "student")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("select", "checkpoint_every", "batches"),
    [("last", 1, 2), ("holdout", 1, 2), ("last", 3, 2)],
)
def test_a_training_killed_between_two_updates_ends_with_the_same_student(
    pair, select, checkpoint_every, batches
):
    configs = pair(
        **SLOW_TRAINING, training__select=select, training__checkpoint_every=checkpoint_every
    )
    for config in configs:
        finish("synthesize", config)
    stopped, uninterrupted = configs
    run = run_of(stopped)

    def in_the_middle():
        done = events(run, "update")
        return done and done[-1]["epoch"] == 1 and done[-1]["update"] == 1

    process = start("train", stopped)
    wait_until(in_the_middle, process)
    process.kill()
    assert ended(process).code == -signal.SIGKILL
    last = events(run, "update")[-1]
    assert 0 < last["update"] < UPDATES_PER_EPOCH - 1
    assert not (run / "student" / "model.safetensors").exists()

    finish("train", stopped)
    resumed = events(run, "training_started")[-1]
    assert 0 < resumed["updates"] < resumed["total"] == 3 * UPDATES_PER_EPOCH
    finish("train", uninterrupted)
    assert contents(run / "student") == contents(run_of(uninterrupted) / "student")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_saves_and_says_how_to_go_on(pair, number):
    configs = pair(**{**SLOW_TRAINING, "training__checkpoint_every": 1000})
    for config in configs:
        finish("synthesize", config)
    stopped, uninterrupted = configs
    run = run_of(stopped)
    process = start("train", stopped, "training.epochs=2")
    wait_until(lambda: events(run, "update"), process)
    process.send_signal(number)
    answer = ended(process)
    assert answer.code == 130
    assert "Traceback" not in answer.err
    assert not leftovers(stopped)
    done, (checkpoint,) = events(run, "update"), events(run, "checkpoint")
    assert (checkpoint["epoch"], checkpoint["update"]) == (0, len(done))

    command = resuming_command(answer)
    assert command == ["train", str(stopped), "training.epochs=2"]
    finish(*command)
    assert len(events(run, "update")) == 2 * UPDATES_PER_EPOCH  # none was repeated
    finish("train", uninterrupted, "training.epochs=2")
    assert contents(run / "student") == contents(run_of(uninterrupted) / "student")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_synthesis_says_how_to_go_on(pair, number):
    stopped, uninterrupted = pair(**SLOW_SYNTHESIS)
    process = start("synthesize", stopped)
    wait_until(lambda: parts(run_of(stopped)), process)
    process.send_signal(number)
    answer = ended(process)
    assert answer.code == 130
    assert "Traceback" not in answer.err
    assert 1 <= len(parts(run_of(stopped))) < 5
    assert not leftovers(stopped)
    finish(*resuming_command(answer))
    finish("synthesize", uninterrupted)
    assert data_of(stopped) == data_of(uninterrupted)


def test_a_run_started_in_stages_equals_one_started_whole(finished, tmp_path):
    config = write_config(tmp_path)
    for stage in ("teacher", "synthesize", "train", "evaluate", "report"):
        finish(stage, config)
    there, here = (contents(folder / "runs" / "tiny") for folder in (finished, tmp_path))
    assert there.keys() == here.keys()
    for name in ("teacher/config.json", "synthetic/stage.json", "report/index.html"):
        assert name in here
