"""Rows of the drill: a baseline in training, whose driver dies, or that has several workers."""

import signal
import time

import pytest
from drill import signalled
from tiny_run import contents, events, finish, run_of, start, wait_until

pytestmark = pytest.mark.slow

DAST = {"name": "dast", "epochs": 6, "iterations_per_epoch": 10, "batch_size": 12, "width": 4}


def made(config):
    """What a training has left but its record, which tells how long it took."""
    return {k: v for k, v in contents(run_of(config) / "student").items() if k != "stage.json"}


@pytest.mark.drill
def test_in_the_training_of_a_baseline(tiny, counted):
    began, account = time.monotonic(), counted("driver: SIGKILL, twice", "baseline")
    settings = {"method": DAST, "training__checkpoint_every": 5, "training__inner__num_steps": 1}
    undisturbed, config = (tiny(keep=("teacher",), name=n, **settings) for n in ("whole", "killed"))
    finish("train", undisturbed)
    run = run_of(config)
    for kept in (1, 3):
        process = start("train", config)
        wait_until(lambda: len(events(run, "checkpoint")) >= kept, process)  # noqa: B023
        signalled(signal.SIGKILL)(process)
        account.kills += 1
    finish("train", config)
    resumed = [event["updates"] for event in events(run, "training_started")]
    assert resumed[0] == 0 < resumed[1] < resumed[2] < 60
    assert all(steps % 5 == 0 for steps in resumed)
    assert made(config) == made(undisturbed)
    account.seconds = time.monotonic() - began


@pytest.mark.ray
@pytest.mark.drill
@pytest.mark.parametrize("num_workers", [1, 2])
def test_any_number_of_workers_gives_the_student_of_one_process(tiny, num_workers):
    settings = {"method": DAST, "training__inner__num_steps": 1}
    alone, config = (tiny(keep=("teacher",), name=n, **settings) for n in ("alone", "several"))
    finish("train", alone)
    where = ("cluster.address=local", f"cluster.num_workers={num_workers}")
    answer = finish("train", config, *where)
    said = f"dast trains generator and student in one worker of {num_workers}"
    assert (said in answer.err) == (num_workers > 1)
    assert made(config) == made(alone)
