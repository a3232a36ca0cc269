"""Run results as they come out of JSON, for the tests of the report."""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "runs"))

from quick_pictures import quick_pictures

from dfshield.report import ReportData, SeedOutcome, image_grid
from dfshield.report.sweep import SweepData, SweepTrial
from dfshield.report.sweep import figures as drawing

__all__ = ["quick_pictures"]

NAMES = ("zero", "one", "two", "three")


def evaluation(model: str, label: str, num_correct: int, **changes: Any) -> dict[str, Any]:
    attacked = label != "Clean"
    return {
        "model": model,
        "model_fingerprint": "a1" * 32,
        "label": label,
        "norm": "linf" if attacked else None,
        "eps": 8 / 255 if attacked else None,
        "num_images": 400,
        "num_correct": num_correct,
        "accuracy": num_correct / 400,
        "interval": [max(0.0, num_correct / 400 - 0.043), min(1.0, num_correct / 400 + 0.037)],
        "floor": 0.2675,
        "majority_class": 2,
        "balanced_accuracy": num_correct / 400 * 0.97,
        "prediction_histogram": [90, 100, 130, 80],
        "collapsed": False,
        "below_floor": False,
        "standard_suite": True if label == "AutoAttack" else None,
        "non_finite": 0,
        "max_perturbation": 8 / 255 if attacked else 0.0,
        "notes": [],
        "seconds": 1.5,
        "seed": 0,
        "slice_size": 250,
        "versions": {"dfshield": "0.1.0"},
        "data": {"name": "digits", "split": "test", "num_images": 450, "fingerprint": "d1" * 32},
        "attack": {"steps": 20} if attacked else None,
        **changes,
    }


def seed_outcome(seed: int, evaluations: tuple[dict[str, Any], ...] | None = None) -> SeedOutcome:
    updates = [
        {
            "epoch": 0,
            "update": n,
            "loss": 2.0 / (n + 1),
            "loss_clean": 0.5 / (n + 1),
            "loss_robust": 1.0 / (n + 1),
            "loss_smooth": 0.5 / (n + 1),
            "agreement_rate": 0.25 + 0.125 * n,
        }
        for n in range(3)
    ]
    holdout = {
        "agreement_clean": 0.915,
        "agreement_pgd": 0.635,
        "histogram": [5, 5, 5, 5],
        "collapsed": False,
    }
    pixels = np.random.default_rng(seed).random((8, 1, 8, 8), dtype=np.float32)
    if evaluations is None:
        evaluations = (
            evaluation("teacher", "Clean", 394),
            evaluation("student", "Clean", 386 + seed, seed=seed),
            evaluation("teacher", "PGD-20", 61),
            evaluation("student", "PGD-20", 244 + 8 * seed, seed=seed),
        )
    return SeedOutcome(
        seed=seed,
        evaluations=evaluations,
        history=(*updates, {"epoch": 0, "holdout": holdout}),
        kept_epoch=0,
        synthesis={
            "num_images": 2000,
            "method": "dss",
            "description": "Gradient descent on pixels.",
            "options": {
                "iterations": 2000,
                "learning_rate": 0.1,
                "coefficients": {"rule": "code", "tv_scale": None, "shift": 0.0, "linear": True},
            },
            "teacher_agreement": 0.978,
            "class_counts": [500, 500, 499, 501],
            "seconds": 192.0,
            "picture": image_grid(pixels, [0, 1, 2, 3] * 2, NAMES),
        },
    )


@pytest.fixture
def make_evaluation() -> Callable[..., dict[str, Any]]:
    return evaluation


@pytest.fixture
def make_outcome() -> Callable[..., SeedOutcome]:
    return seed_outcome


@pytest.fixture
def make_data() -> Callable[..., ReportData]:
    def make(*seeds: SeedOutcome, **changes: Any) -> ReportData:
        fields: dict[str, Any] = {
            "name": "ward-7",
            "created": "2026-01-02T03:04:05Z",
            "teacher": {
                "source": "dfshield:resnet8",
                "architecture": "resnet8",
                "fingerprint": "f0" * 32,
                "input_shape": [1, 8, 8],
                "num_classes": 4,
                "class_names": list(NAMES),
                "trained_here": False,
            },
            "threat": {"norm": "linf", "eps": 8 / 255, "step_size": 2 / 255},
            "config_yaml": "name: ward-7\nthreat: {norm: linf, eps: 8/255}\n",
            "versions": {"dfshield": "0.1.0", "torch": "2.13.0"},
            "seeds": seeds or (seed_outcome(0),),
        }
        return ReportData(**fields | changes)

    return make


VOID = {"meta", "img", "source", "br", "hr", "link", "input"}
LOADING = {"src", "srcset", "href", "action", "data", "poster", "background", "xlink:href"}


class PageReader(HTMLParser):
    """Walks a page: the text it shows, what it loads; fails where tags do not nest."""

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.loaded: list[str] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loaded += [value for key, value in attrs if key in LOADING]
        assert not [key for key, _ in attrs if key.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.fixture
def read_page() -> Callable[[str], PageReader]:
    return PageReader


def style_of(page: str) -> str:
    """Insist that a page is HTML that loads pictures alone, which it holds; return its style."""
    reader = PageReader(page)
    assert page.startswith("<!DOCTYPE html>")
    assert reader.loaded
    assert all(address.startswith("data:image/png;base64,") for address in reader.loaded)
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(reader.tags)
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    return style[1]


@pytest.fixture
def checked_style() -> Callable[[str], str]:
    return style_of


def sweep_trial(**changes: Any) -> SweepTrial:
    fields: dict[str, Any] = {
        "name": "t0000",
        "state": "done",
        "values": {},
        "seed": 0,
        "holdout": {},
        "test": {},
        "floor": None,
        "collapsed": False,
        "seconds": 60.0,
    }
    return SweepTrial(**fields | changes)


@pytest.fixture
def make_trial() -> Callable[..., SweepTrial]:
    return sweep_trial


@pytest.fixture
def make_sweep() -> Callable[..., SweepData]:
    """Return a function that makes a sweep over all combinations.

    ``measured(values, seed)`` gives the fields of a trial that are not those of a waiting one.
    """

    def make(
        parameters: Mapping[str, Sequence[Any]],
        measured: Callable[[Mapping[str, Any], int], Mapping[str, Any]],
        *,
        seeds: Sequence[int] = (0,),
        **changes: Any,
    ) -> SweepData:
        combined = product(*parameters.values())
        pairs = [(dict(zip(parameters, c, strict=True)), s) for c in combined for s in seeds]
        fields: dict[str, Any] = {
            "name": "ward-7",
            "created": "2026-01-02T03:04:05Z",
            "architecture": "pytorchcv:resnet20_cifar10",
            "data_name": "cifar10",
            "threat": {"norm": "linf", "eps": 4 / 255},
            "parameters": {key: tuple(values) for key, values in parameters.items()},
            "select_on": "holdout",
            "metric": "agreement_pgd",
            "trials": tuple(
                sweep_trial(name=f"t{n:04d}", values=v, seed=s, **measured(v, s))
                for n, (v, s) in enumerate(pairs)
            ),
            "teacher": {"clean": 0.94, "AutoAttack": 0.001},
            "config_yaml": "name: ward-7\n",
            "versions": {"torch": "2.13.0"},
            "settings": {
                key: value
                for key, value in {
                    "training.objective.name": "soft-label",
                    "training.objective.lambda1": 1.0,
                    "training.objective.lambda2": 1.0,
                    "training.gradrefine.tau": 0.5,
                    "training.gradrefine.num_batches": 20,
                    "threat.eps": "4/255",
                    "synthesis.num_images": 2000,
                }.items()
                if key not in parameters
            },
        }
        return SweepData(**fields | changes)

    return make


@pytest.fixture
def only_svg(monkeypatch):
    """Draw the SVG alone, since what is said in a picture is read from it."""
    real = drawing.drawn

    def draw(heights, paint, *looks):
        svg = {look: real(heights, paint, look)[0] for look in looks if look.form == "svg"}
        return tuple(svg.get(look, b"") for look in looks)

    monkeypatch.setattr(drawing, "drawn", draw)
