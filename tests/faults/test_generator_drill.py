"""Rows of the drill: the driver dies while a generator is fitted or sampled, or a set augmented."""

import shutil
import signal
import time

import pytest
from drill import part_stamps, signalled
from tiny_run import contents, events, finish, parts, run_of, start, wait_until, write_config

pytestmark = pytest.mark.slow

SIZES = {"num_images": 400, "num_holdout": 20, "batch_size": 20, "checkpoint_every": 20}
NUM_PARTS = 21
QIMERA = {"name": "qimera", "fit_iterations": 200, "fit_batch_size": 20, "width": 8}
STORAGE = {"storage__part_size": 20, "storage__shard_size": 200}


def undisturbed(finished, folder, **section):
    """Return the run folder of a set that nobody disturbs."""
    config = write_config(folder, synthesis={**SIZES, **section}, **STORAGE)
    shutil.copytree(run_of(finished / "tiny.yaml") / "teacher", run_of(config) / "teacher")
    finish("synthesize", config)
    return run_of(config)


@pytest.fixture(scope="module")
def sampled(finished, tmp_path_factory):
    """The run folder of a set that is sampled from a generator."""
    return undisturbed(finished, tmp_path_factory.mktemp("sampled"), method=QIMERA)


def killed(config, ripe, account):
    """Begin or continue a synthesis, kill it when it is ripe; return the parts that were there."""
    process = start("synthesize", config)
    wait_until(ripe, process)
    signalled(signal.SIGKILL)(process)
    there = part_stamps(run_of(config))
    account.kills += 1
    account.committed.append(len(there))
    return there


def account_for(config, reference, before, account, began):
    """Let the synthesis end, and make sure that nothing is lost or was made twice."""
    finish("synthesize", config)
    run = run_of(config)
    assert 2 < len(before) < NUM_PARTS
    assert before.items() <= part_stamps(run).items()
    assert contents(run / "synthetic") == contents(reference / "synthetic")
    account.lost = len(events(run, "unit_started")) - NUM_PARTS
    assert account.lost <= 1
    account.seconds = time.monotonic() - began


@pytest.mark.drill
def test_in_the_fit_of_a_generator_and_in_sampling(sampled, tiny, counted):
    began, account = time.monotonic(), counted("driver: SIGKILL, twice", "fit, sampling")
    config = tiny(keep=("teacher",), synthesis={**SIZES, "method": QIMERA}, **STORAGE)
    run = run_of(config)
    generator = run / "synthetic" / "generator"
    assert not killed(config, (generator / "checkpoint.pt").exists, account)
    assert not (generator / "fit.json").exists()
    before = killed(config, lambda: len(parts(run)) > 2, account)
    begun, resumed = (event["steps"] for event in events(run, "fit_started"))
    assert (begun, resumed % 20) == (0, 0)
    assert resumed > 0
    account_for(config, sampled, before, account, began)
    assert len(events(run, "fit_done")) == 1


@pytest.mark.drill
def test_in_an_augmentation(sampled, finished, tiny, tmp_path, counted):
    began, account = time.monotonic(), counted("driver: SIGKILL", "augmentation")
    section = {"augment": "mixup", "data": str(sampled)}
    reference = undisturbed(finished, tmp_path / "undisturbed", **section)
    config = tiny(keep=("teacher",), synthesis={**SIZES, **section}, **STORAGE)
    before = killed(config, lambda: len(parts(run_of(config))) > 2, account)
    account_for(config, reference, before, account, began)
