"""Variants of one's own, a class and a registration each, through a whole run."""

import json

import pytest
from tiny_run import call, run_of, succeed

from dfshield.attacks import ATTACKS, FGSM
from dfshield.trackers import TRACKERS, Tracker
from dfshield.training import SoftLabelObjective
from dfshield.training.objectives import OBJECTIVES

POINTS = []


class HalfStep(FGSM):
    """A step of half of eps.

    Args:
        share: of eps.
    """

    name = "half-step"

    def __init__(self, *, eps: float | int | str, norm: str = "linf", share: float = 0.5) -> None:
        super().__init__(eps=eps, norm=norm)
        self.share = share

    def perturb(self, model, x, y, *, seed):
        return x + self.share * (super().perturb(model, x, y, seed=seed) - x)

    @property
    def label(self):
        return f"HalfStep {self.share}"

    def describe(self):
        return {**super().describe(), "share": self.share}


class CleanOnly(SoftLabelObjective):
    """The clean term alone.

    Args:
        weight: of the term.
    """

    name = "clean-only"

    def __init__(self, *, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def terms(self, **logits):
        return {"only": self.weight * super().terms(**logits)["clean"]}


class InMemory(Tracker):
    """Keeps the points in a list."""

    name = "in-memory"
    flush_every = 60.0

    def open(self, run):
        self.run = run
        return self

    def log(self, point):
        POINTS.append((self.run.name, point))

    def flush(self):
        pass

    def close(self, *, failed):
        POINTS.append((self.run.name, failed))


@pytest.fixture
def added(monkeypatch):
    """Each is registered for the test."""
    for family, variant in ((ATTACKS, HalfStep), (OBJECTIVES, CleanOnly), (TRACKERS, InMemory)):
        monkeypatch.setattr(family, "_variants", {**family})
        family.register(variant)
    monkeypatch.setattr(f"{__name__}.POINTS", [])


def test_they_are_trained_attacked_and_tracked_with_and_reported(added, tiny):
    config = tiny(
        keep=("teacher", "synthetic"),
        training__objective={"name": "clean-only", "weight": 2.0},
        evaluation__attacks=[{"name": "half-step", "share": 0.25}],
        trackers=["in-memory"],
    )
    answer = succeed("run", config)
    run = run_of(config)
    assert "HalfStep 0.25" in answer.out

    updates = [p for name, p in POINTS[:-1] if p.group == "train" and name == "tiny"]
    assert [point.step for point in updates] == [1, 2, 3, 4]
    assert all(p.metrics["loss_only"] == p.metrics["loss"] > 0 for p in updates)
    assert POINTS[-1] == ("tiny", False)
    assert not (run / "tensorboard").exists()

    state = json.loads(succeed("status", run, "--json").out)
    (seed,) = state["seeds"]
    assert {r["label"] for r in seed["evaluate"]} == {"clean", "HalfStep 0.25"}
    assert seed["train"]["last_update"]["loss_only"] == updates[-1].metrics["loss"]
    page = (run / "report" / "index.html").read_text()
    assert "HalfStep 0.25" in page
    listed = json.loads(succeed("methods", "--json").out)
    assert listed["objectives"]["clean-only"]["options"]["weight"]["default"] == 1.0

    before = len(POINTS)
    succeed("run", config)  # nothing is left to do
    assert len(POINTS) == before
    line = call("train", config, "training.objective.weight=3").refusal()
    assert "objective.weight: 2.0 → 3" in line
