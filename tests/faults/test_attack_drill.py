"""Attacks that are killed: no image has another verdict, or another adversarial image."""

import json
import os
import random
import signal
import time

import pytest
from tiny_run import contents, finish, run_of, stamps, start, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SETTINGS = ("evaluation.slice_size=4", "evaluation.keep_adversarial=true")
SEARCHED = "{name: automated, choices: [pgd, fgsm, apgd-ce], trials: 3, images: 3, stages: 2}"
ATTACKS = {"autoattack": "{name: autoattack}", "automated": SEARCHED}
ON_RAY = ("cluster.address=local", "cluster.num_workers=2")


def evaluation(config):
    return run_of(config) / "evaluation"


def measured(config, attack):
    """The slices that have been attacked, and when their verdicts were written."""
    files = stamps(evaluation(config) / "slices")
    return {n: stamp for n, stamp in files.items() if attack in n and n.endswith(".json")}


def verdicts(config):
    """What does not depend on the clock: rows and adversarial images, and what results note."""
    files = contents(evaluation(config))
    notes = {
        n: json.loads(c)["notes"] for n, c in files.items() if n.endswith(".json") and "/" not in n
    }
    kept = (".parquet", ".safetensors")
    return {n: c for n, c in files.items() if n.endswith(kept)} | notes


@pytest.fixture
def undisturbed(tiny):
    """A function that gives the verdicts of one process that nobody disturbs."""

    def of(*settings):
        config = tiny(keep=("teacher", "student"), name="undisturbed")
        finish("evaluate", config, *settings)
        return verdicts(config)

    return of


@pytest.mark.drill
@pytest.mark.parametrize("where", [(), ON_RAY], ids=["one process", "two workers"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_three_kills_change_no_verdict(tiny, undisturbed, where, attack):
    settings = (*SETTINGS, f"evaluation.attacks=[{ATTACKS[attack]}]")
    config = tiny(keep=("teacher", "student"), name="killed")
    draw = random.Random(os.getpid())
    for kill in range(3):
        before = measured(config, attack)
        process = start("evaluate", config, *settings, *where)
        wanted = len(before) + 1 + 2 * kill
        wait_until(lambda wanted=wanted: len(measured(config, attack)) >= wanted, process)
        time.sleep(draw.uniform(0, 1))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        # Slices that had been measured are not measured again.
        assert before.items() <= measured(config, attack).items()
    finish("evaluate", config, *settings, *where)
    assert verdicts(config) == undisturbed(*settings)
    assert len(measured(config, attack)) == 2 * 40 / 4
