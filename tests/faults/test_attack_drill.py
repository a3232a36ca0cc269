"""AutoAttack that is killed: no image has another verdict, or another adversarial image."""

import os
import random
import signal
import time

import pytest
from tiny_run import contents, finish, run_of, stamps, start, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SETTINGS = (
    "evaluation.attacks=[{name: autoattack}]",
    "evaluation.slice_size=4",
    "evaluation.keep_adversarial=true",
)
ON_RAY = ("cluster.address=local", "cluster.num_workers=2")


def evaluation(config):
    return run_of(config) / "evaluation"


def measured(config):
    """The slices that have been attacked, and when their verdicts were written."""
    files = stamps(evaluation(config) / "slices")
    return {n: stamp for n, stamp in files.items() if "autoattack" in n and n.endswith(".json")}


def verdicts(config):
    """The rows of all images and their adversarial images: what does not depend on the clock."""
    kept = (".parquet", ".safetensors")
    return {n: c for n, c in contents(evaluation(config)).items() if n.endswith(kept)}


@pytest.fixture
def undisturbed(tiny):
    """The verdicts of one process that nobody disturbs."""
    config = tiny(keep=("teacher", "student"), name="undisturbed")
    finish("evaluate", config, *SETTINGS)
    return verdicts(config)


@pytest.mark.drill
@pytest.mark.parametrize("where", [(), ON_RAY], ids=["one process", "two workers"])
def test_three_kills_change_no_verdict(tiny, undisturbed, where):
    config = tiny(keep=("teacher", "student"), name="killed")
    draw = random.Random(os.getpid())
    for kill in range(3):
        before = measured(config)
        process = start("evaluate", config, *SETTINGS, *where)
        wanted = len(before) + 1 + 2 * kill
        wait_until(lambda wanted=wanted: len(measured(config)) >= wanted, process)
        time.sleep(draw.uniform(0, 1))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        # Slices that had been measured are not measured again.
        assert before.items() <= measured(config).items()
    finish("evaluate", config, *SETTINGS, *where)
    assert verdicts(config) == undisturbed
    assert len(measured(config)) == 2 * 40 / 4
