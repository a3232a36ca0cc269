"""Mini-batches that a GPU attacks together: as many as injected reports of its memory allow."""

from dataclasses import replace

import pytest
import torch
from tiny_run import run_of

import dfshield.runs.work.attack_passes as sizes
import dfshield.runs.work.engine_trial as work
from dfshield.config import load_config
from dfshield.engine.peak_memory import memory_share
from dfshield.engine.trial import RungReport, Trial
from dfshield.runs import Engine
from dfshield.runs.driver.engine_trial import tried_engine
from dfshield.runs.inputs.classifier_folder import load_classifier
from dfshield.runs.work.attack_passes import most_together, number_that_fits
from dfshield.storage import Folder, SurrogateDataset

GPU = Engine(device="cuda", threads=1, torch=torch.__version__)


@pytest.fixture
def settings(tiny):
    """The settings of a run with images, in groups of two mini-batches."""
    config = tiny(keep=("teacher", "synthetic"))
    return load_config(str(config), ()), run_of(config)


@pytest.mark.parametrize(
    ("one", "two", "memory", "number"),
    [
        (100, 150, 1000, 8),  # 15 would fit
        (100, 200, 500, 4),
        (100, 200, 499, 3),
        (100, 300, 300, 1),
        (900, 990, 1000, 1),
        (100, 100, 1000, 8),
        (None, None, 1000, 1),
        (100, 150, None, 1),
    ],
)
def test_as_many_as_fit_into_four_fifths_of_the_memory(one, two, memory, number):
    assert number_that_fits({1: one, 2: two}.get, memory=memory, most=8) == number


def test_where_two_do_not_fit_each_is_attacked_alone():
    def peak_of(number):
        if number == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 100

    assert number_that_fits(peak_of, memory=10**6, most=8) == 1


@pytest.mark.parametrize(("free", "share"), [(90, 50), (10, 15)])
def test_what_others_hold_of_a_gpu_is_no_part_of_a_share(monkeypatch, free, share):
    reports = {
        "mem_get_info": (free, 100),
        "get_per_process_memory_fraction": 0.5,
        "memory_reserved": 5,
    }
    for name, value in reports.items():
        monkeypatch.setattr(torch.cuda, name, lambda _, value=value: value)
    assert memory_share(torch.device("cuda")) == share
    assert memory_share(torch.device("cpu")) is None


def test_a_cpu_and_whoever_names_a_number_are_left_alone(settings):
    training = settings[0].training
    wide = training.gradrefine.model_copy(update={"num_batches": 20})
    wide = training.model_copy(update={"gradrefine": wide})
    assert most_together(wide, GPU) == 8
    assert most_together(training, GPU) == 2
    assert most_together(wide, replace(GPU, device="cpu")) == 1
    named = wide.engine.model_copy(update={"batches_per_pass": 1})
    assert most_together(wide.model_copy(update={"engine": named}), GPU) == 1


@pytest.mark.parametrize(
    ("each", "num_workers", "names"),
    [
        (100, 1, ["float32, 2 batches a pass"]),
        (700, 1, []),  # two do not fit
        (100, 2, []),  # the second worker would have none
    ],
)
def test_the_trial_tries_what_fits_and_finds_no_wrong_number(
    settings, monkeypatch, each, num_workers, names
):
    config, run = settings
    attacked, attack = [], sizes.attacked

    class Report:
        def __init__(self, device):
            attacked.clear()

        def bytes(self):
            return each * sum(attacked)

    def noted(trainer, batch, draw):
        attacked.append(len(batch.images) // batch.size)
        return attack(trainer, batch, draw)

    monkeypatch.setattr(sizes, "attacked", noted)
    monkeypatch.setattr(sizes, "PeakMemory", Report)
    monkeypatch.setattr(work, "memory_share", lambda _: 1000)
    monkeypatch.setattr(work, "accelerations", lambda *_: [])
    trial = work.training_trial(
        load_classifier(Folder.at(run / "teacher")),
        SurrogateDataset.open(Folder.at(run / "synthetic")).load("data", num_images=40),
        config,
        GPU,
        seed=0,
        num_images=10**6,
        num_workers=num_workers,
        long=0.0,
    )
    assert [rung.name for rung in trial.rungs] == names
    for rung in trial.rungs:
        assert rung.reason == "" or "times as fast" in rung.reason


def test_the_number_is_a_part_of_the_engine_that_the_trial_chooses(settings):
    taken = {"precision": "float32", "compiled": False, "batches_per_pass": 4}
    trial = Trial(taken, 1e6, 0.4, (RungReport("float32, 4 batches a pass", "chosen", faster=2.0),))
    found = tried_engine(
        GPU,
        GPU,
        settings[0].training.engine,
        work=1e30,
        try_ways=lambda _: trial,
        say=lambda _: None,
    )
    assert found.engine == replace(GPU, batches_per_pass=4)
