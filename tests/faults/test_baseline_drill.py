"""A row of the drill: the driver dies while a baseline trains its generator and the student."""

import signal
import time

import pytest
from drill import signalled
from tiny_run import contents, events, finish, run_of, start, wait_until

pytestmark = pytest.mark.slow

DAST = {"name": "dast", "epochs": 6, "iterations_per_epoch": 10, "batch_size": 12, "width": 4}


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
    found, whole = ({**contents(run_of(c) / "student")} for c in (config, undisturbed))
    for files in (found, whole):
        del files["stage.json"]  # which tells how long it took
    assert found == whole
    account.seconds = time.monotonic() - began
