"""Batches of a synthesis that share a pass: as many as injected reports of a GPU's memory allow."""

import pytest
import torch
from tiny_run import run_of

import dfshield.runs.work.engine_trial as work
from dfshield.config import load_config
from dfshield.runs.inputs.classifier_folder import load_classifier
from dfshield.runs.work.synthesis_passes import batches_that_fit
from dfshield.storage import Folder
from dfshield.synthesis.trial import _SharedPass

MEMORY = 1000


class Ways:
    """A bound synthesizer whose passes hold so many bytes for each batch."""

    def __init__(self, each):
        self.each, self.number = each, 0

    def trial_ways(self, *, num_batches, **_):
        self.number = num_batches
        return self

    def faster(self, acceleration):
        assert acceleration.plain
        return self

    def begin(self):
        pass

    def run(self, state, steps):
        if self.each * self.number > MEMORY:
            raise torch.OutOfMemoryError("CUDA out of memory")

    def peak_bytes(self):
        return self.each * self.number


@pytest.mark.parametrize(
    ("each", "per_part", "memory", "number"),
    [
        (100, 8, MEMORY, 8),
        (100, 20, MEMORY, 5),  # eight fit: 4 and 5 share out a part
        (150, 5, MEMORY, 5),
        (170, 5, MEMORY, 1),  # four fit, which leave one behind
        (600, 5, MEMORY, 1),
        (100, 0, MEMORY, 1),  # parts of less than a batch
        (100, 5, None, 1),
    ],
)
def test_a_number_that_fits_and_shares_out_a_part(each, per_part, memory, number):
    found = batches_that_fit(Ways(each), seed=0, size=10, per_part=per_part, memory=memory)
    assert found == number


@pytest.mark.parametrize(
    ("each", "named", "names"),
    [
        (100, None, ["float32, 2 batches a pass"]),
        (700, None, []),  # two do not fit
        (100, 1, []),  # whoever names a number gets it
    ],
)
def test_the_trial_tries_what_fits_and_finds_no_wrong_number(tiny, monkeypatch, each, named, names):
    config = tiny(keep=("teacher",), synthesis__engine={"batches_per_pass": named})
    settings = load_config(str(config), ())
    monkeypatch.setattr(_SharedPass, "peak_bytes", lambda way: each * len(way._draws))
    monkeypatch.setattr(work, "memory_share", lambda _: MEMORY)
    monkeypatch.setattr(work, "accelerations", lambda *_: [])
    trial = work.synthesis_trial(
        load_classifier(Folder.at(run_of(config) / "teacher")),
        settings.synthesis,
        seed=0,
        long=0.0,
        part_size=settings.storage.part_size,
    )
    assert [rung.name for rung in trial.rungs] == names
    for rung in trial.rungs:
        assert rung.reason == "" or "times as fast" in rung.reason
