"""Images of a slice that go through a model at once: as many as injected memory reports allow."""

import json

import pytest
import torch
from tiny_run import run_of

import dfshield.runs.work.evaluation_passes as passes
from dfshield.config import load_config
from dfshield.runs import InProcessExecutor, Run
from dfshield.runs.work import slices


def changes(name, **options):
    attacks = [{"name": "pgd", "num_steps": 2}, {"name": "latent", "num_steps": 2}]
    return {"evaluation__attacks": attacks, "evaluation__models": ["student"], "name": name}


def measured(config):
    Run(load_config(str(config), ()), executor=InProcessExecutor()).run(["evaluate"])
    folder = run_of(config) / "evaluation"
    found = [json.loads(file.read_text()) for file in sorted(folder.rglob("slices/*/*.json"))]
    return [{key: value for key, value in one.items() if key != "seconds"} for one in found]


@pytest.fixture
def memory(monkeypatch):
    """Reports of 1,000 bytes, of which every image of a pass holds as many as it says."""

    def report(each):
        monkeypatch.setattr(passes, "memory_share", lambda _: 1000)
        monkeypatch.setattr(
            passes, "gradient_peak", lambda _, shape, piece, device: lambda n: n * piece * each
        )

    return report


@pytest.mark.parametrize(
    ("each", "size", "most"),
    [(1, 80, 80), (16, 80, 50), (40, 80, 20), (10**6, 80, 10), (1, 83, 83), (10**6, 5, 5)],
)
def test_as_many_eighths_as_fit_and_at_least_one(memory, each, size, most):
    memory(each)
    found = passes.images_that_fit(torch.nn.Flatten(), (1, 8, 8), size, torch.device("cpu"))
    assert found == most


def test_nothing_is_cut_where_nobody_knows_the_memory():
    cpu = torch.device("cpu")
    assert passes.images_that_fit(torch.nn.Flatten(), (1, 8, 8), 80, cpu) == 80


def test_a_peak_is_that_of_a_gradient_of_the_pieces(monkeypatch):
    asked = []
    monkeypatch.setattr(passes, "PeakMemory", lambda _: torch.nn.Module())
    monkeypatch.setattr(torch.nn.Module, "bytes", lambda _: 7, raising=False)
    model = torch.nn.Flatten()
    model.register_forward_pre_hook(lambda _, given: asked.append(tuple(given[0].shape)))
    assert passes.gradient_peak(model, (1, 8, 8), 5, torch.device("cpu"))(2) == 7
    assert asked == [(10, 1, 8, 8)]


def test_an_evaluation_in_pieces_finds_the_same_and_says_so(tiny, memory, monkeypatch):
    whole = measured(tiny(keep=("teacher", "student"), **changes("whole")))
    memory(200)
    cut, usual = [], slices.InPieces

    class Noted(usual):
        def forward(self, images):
            cut.append(len(images))
            return super().forward(images)

    monkeypatch.setattr(slices, "InPieces", Noted)
    pieces = measured(tiny(keep=("teacher", "student"), **changes("pieces")))
    assert cut
    told = [one["engine"].pop("images_per_pass", None) for one in pieces]
    assert any(told)
    assert not all(told)  # clean images, and an attack that looks inside
    for one, other in zip(whole, pieces, strict=True):
        assert one["adversarial_predictions"] == other["adversarial_predictions"]
        assert one["engine"] == other["engine"]
