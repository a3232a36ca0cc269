"""Which settings of a sweep are in the paper's tables, and what the paper reports for them."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dfshield.paper import paper_table
from dfshield.report.sweep.axes import EPS, LAMBDA1, LAMBDA2, NUM_BATCHES, TAU, as_number
from dfshield.report.sweep.settings import settings_of
from dfshield.report.sweep.trials import SweepData

_DEFAULTS = {LAMBDA1: 1.0, LAMBDA2: 1.0, TAU: 0.5, NUM_BATCHES: 20.0, EPS: 4 / 255}
_LAMBDAS, _EPS = {LAMBDA1: "lambda1", LAMBDA2: "lambda2"}, {EPS: "eps"}
_STUDIES: dict[str, dict[str, str]] = {
    "table-25": _LAMBDAS,
    "table-26": _LAMBDAS,
    "table-23": {NUM_BATCHES: "num_batches"},
    "table-24": {TAU: "tau"},
    "table-14": _EPS,
    "table-15": _EPS,
}
"""The tables of studies: the keys that each moves, with the fields of its cells."""
_OURS = "DataFreeShield"  # as the tables that compare methods call it
_MODELS = {
    "resnet20": r"resnet[-_]?20",
    "resnet56": r"resnet[-_]?56",
    "wrn28_10": r"(wrn|wide[-_]?resnet)[-_]?28[-_]10",
}
_OPTIONS = "teacher.options"  # another width makes it another model
_REAL_IMAGES = "training.images."  # of a reference, which the paper has no such table for
_INGREDIENTS = {
    "training.schedule.name": "constant",
    "training.schedule.warmup": 0.0,
    "training.average.name": "none",
    "training.augmentations": [],
    "training.weight_perturbation": None,
    "training.inner.first_steps": None,
}
"""What the paper's training does not have, with what stands for its absence."""
_RECIPE = {
    "synthesis.num_images": 60_000,
    "synthesis.method.iterations": 2000,
    "training.batch_size": 200,
    "training.learning_rate": 1e-4,
    "training.inner.num_steps": 10,
}


@dataclass(frozen=True)
class PaperCell:
    """What the paper reports for one setting.

    Attributes:
        table: its number in the paper.
        clean: accuracy on unchanged test images, in [0, 1].
        autoattack: accuracy under AutoAttack, in [0, 1].
    """

    table: int
    clean: float
    autoattack: float


@dataclass(frozen=True)
class _Study:
    """One table for one model: the keys that it moves, everything else at the defaults."""

    keys: tuple[str, ...]
    cells: Mapping[tuple[float, ...], PaperCell]

    def cell(self, point: Mapping[str, float]) -> PaperCell | None:
        """Return the cell at a point of all the keys, None where the table has none."""
        fixed = _DEFAULTS.keys() - set(self.keys)
        if any(abs(point[key] - _DEFAULTS[key]) > 1e-6 for key in fixed):
            return None
        return self.cells.get(tuple(_rounded(point[key]) for key in self.keys))


def paper_cells(data: SweepData) -> tuple[PaperCell | None, ...]:
    """Return the paper's cell for every setting, in the order of ``settings_of``.

    A cell is the same when data set, model and norm are, and λ1, λ2, τ, K and ε stand where a table
    has them: all but those that it moves at the paper's defaults. Nothing else may be swept, nor
    may the training have an ingredient that the paper's has not; ``recipe_differences`` tells what
    else is not as in the paper. Where two tables have the cell, that of the swept keys is taken.
    """
    settings = settings_of(data)
    place = _place(data)
    if place is None or set(data.parameters) - _DEFAULTS.keys():
        return (None,) * len(settings)
    studies = sorted(_studies(*place), key=lambda s: -len(data.parameters.keys() & set(s.keys)))
    return tuple(_find(studies, _point(data, setting.values)) for setting in settings)


def recipe_differences(data: SweepData) -> tuple[str, ...]:
    """Return what is smaller or other than the paper's recipe, ``"epochs 10 (paper: 100)"``."""
    place = _place(data)
    if place is None:
        return ()
    recipe = {**_RECIPE, "training.epochs": 200 if place[1] == "resnet20" else 100}
    return tuple(
        f"{key} {data.settings[key]} (paper: {expected:g})"
        for key, expected in recipe.items()
        if key in data.settings and as_number(data.settings[key]) != expected
    )


def _place(data: SweepData) -> tuple[str, str] | None:
    """Return data set and model where the paper has tables for them."""
    source = data.architecture.lower().rpartition(":")[2]
    found = [name for name, pattern in _MODELS.items() if re.match(rf"{pattern}(?!\d)", source)]
    altered = any(value for key, value in data.settings.items() if key.startswith(_OPTIONS))
    trained_on = re.search(r"_(cifar100|cifar10|svhn)$", source)
    if not found or altered or data.data_name not in ("cifar10", "svhn"):
        return None
    if trained_on and trained_on[1] != data.data_name:
        return None
    if not _trains_as_the_paper(data.settings) or data.threat.get("norm") != "linf":
        return None
    return data.data_name, found[0]


def _trains_as_the_paper(settings: Mapping[str, Any]) -> bool:
    """Return whether it is the paper's objective, on surrogate images, with nothing added."""
    return (
        settings.get("training.objective.name", "soft-label") == "soft-label"
        and not any(key.startswith(_REAL_IMAGES) for key in settings)
        and all(settings.get(key, absent) == absent for key, absent in _INGREDIENTS.items())
    )


def _point(data: SweepData, values: Mapping[str, Any]) -> dict[str, float] | None:
    """Return where a setting lies, None where a key is unknown or no number."""
    known = {EPS: data.threat.get("eps"), **data.settings, **values}
    point = {key: as_number(known.get(key)) for key in _DEFAULTS}
    complete = {key: number for key, number in point.items() if number is not None}
    return complete if len(complete) == len(point) else None


def _find(studies: Iterable[_Study], point: Mapping[str, float] | None) -> PaperCell | None:
    if point is None:
        return None
    return next((cell for study in studies if (cell := study.cell(point))), None)


def _studies(data_name: str, model: str) -> Iterator[_Study]:
    """Yield the tables that have a data set and a model, with the rows of the paper's method."""
    for table_id, fields in _STUDIES.items():
        table = paper_table(table_id)
        found: dict[tuple[float, ...], dict[str, float]] = defaultdict(dict)
        for cell in table.select(data=data_name, model=model):
            if cell.keys.get("method", _OURS) == _OURS:
                point = tuple(_rounded(as_number(cell.keys[f]) or 0.0) for f in fields.values())
                found[point][cell.metric] = cell.value / 100
        if found:
            cells = {
                point: PaperCell(table.number, accuracy["clean"], accuracy["autoattack"])
                for point, accuracy in found.items()
            }
            yield _Study(tuple(fields), cells)


def _rounded(value: float) -> float:
    return round(value, 6)
