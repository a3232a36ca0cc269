"""Loss surfaces of several models, row by row over the workers; rows that are done are kept."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import isfinite

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError

from dfshield.canonical import identity_hash
from dfshield.datasets import ImageSet
from dfshield.errors import InputError
from dfshield.evaluation.surface import (
    AdversarialLoss,
    filter_normalised,
    losses_around,
    mean_rise,
)
from dfshield.report.surface import SurfaceView
from dfshield.runs.execution.protocol import Executor, Worker
from dfshield.runs.inputs.classifier_folder import describe, load_classifier
from dfshield.runs.inputs.real_data import fitted
from dfshield.runs.watching.events import Observer, SilentMonitor
from dfshield.seeds import RngStream, derived_seed, generator
from dfshield.storage import Folder

ROWS = "surface-rows"
Row = list[float | None]
"""Losses; None where the model gave no finite number."""
_ROW = TypeAdapter(Row)


@dataclass(frozen=True, eq=False)
class SurfaceTask:
    """Computes rows of loss surfaces; a unit is the place of a model and the number of a row.

    Attributes:
        models: their folders.
        images: real ones, with labels.
        loss: of a model on them.
        at: the coordinates of both axes.
        seed: that the directions are drawn with, the same for all models.
    """

    models: tuple[str, ...]
    images: ImageSet
    loss: AdversarialLoss
    at: tuple[float, ...]
    seed: int

    def prepare(self, worker: Worker) -> Callable[[tuple[int, int]], Row]:
        """Return what computes a row; a model is loaded when its first row is asked for."""
        known: dict[int, Callable[[float], Row]] = {}

        def row(unit: tuple[int, int]) -> Row:
            place, number = unit
            if place not in known:
                known[place] = self._rows(Folder.at(self.models[place]), worker.device)
            return known[place](self.at[number])

        return row

    def _rows(self, folder: Folder, device: torch.device) -> Callable[[float], Row]:
        model = load_classifier(folder, device=device)
        images = fitted(self.images, model, key="--data")
        x, y = (tensor.to(device) for tensor in images.tensors(slice(0, len(images))))
        first, second = (
            filter_normalised(model, generator(self.seed, RngStream.SURFACE, axis))
            for axis in (0, 1)
        )

        def row(v: float) -> Row:
            points = [(u, v) for u in self.at]
            losses = losses_around(model, (first, second), points, lambda m: self.loss(m, x, y))
            return [loss if isfinite(loss) else None for loss in losses]

        return row

    def label(self, unit: tuple[int, int]) -> str:
        """Return how people call a row."""
        place, number = unit
        return f"{self.models[place]}, row {number}"


def loss_surfaces(
    models: Sequence[tuple[str, Folder]],
    images: ImageSet,
    *,
    loss: AdversarialLoss,
    points: int,
    span: float,
    radii: Sequence[float],
    seed: int,
    executor: Executor,
    observer: Observer,
    out: Folder,
) -> tuple[SurfaceView, ...]:
    """Return the loss surface of every model.

    Args:
        models: name and folder of each.
        images: real ones that the loss is taken on.
        loss: of a model on them, in eval mode.
        points: of each axis, an odd number: the weights themselves are one of them.
        span: the axes reach from ``-span`` to ``span``.
        radii: of the circles over which the rise is averaged.
        seed: of directions and random starts.
        executor: whose workers compute rows.
        observer: is told how it goes.
        out: the folder that keeps the rows that are done, so that the next command goes on.

    Raises:
        InputError: for images that do not fit a model, or a damaged row.
    """
    at = tuple(np.linspace(-span, span, points).tolist())
    start = derived_seed(seed, RngStream.SURFACE)
    loss = AdversarialLoss(**{**asdict(loss), "seed": start})
    folders = [folder for _, folder in models]
    kept = [out.child(ROWS).child(_identity(f, images, loss, at, seed)) for f in folders]
    units = [(place, row) for place in range(len(models)) for row in range(points)]
    left = [unit for unit in units if not kept[unit[0]].exists(_name(unit[1]))]
    task = SurfaceTask(tuple(f.uri for f in folders), images, loss, at, seed)
    observer.begin("Surface", total=len(units), done=len(units) - len(left), unit="rows")
    groups = [[unit for unit in left if unit[0] == place] for place in range(len(models))]
    for done in executor.map(
        task, [g for g in groups if g], engine=executor.engine(), monitor=SilentMonitor()
    ):
        place, row = done.unit
        kept[place].write_json(_name(row), done.result)
        observer.advance(1.0)
    observer.end()
    return tuple(
        _view(name, folder, at, radii) for (name, _), folder in zip(models, kept, strict=True)
    )


def _identity(
    model: Folder, images: ImageSet, loss: AdversarialLoss, at: Sequence[float], seed: int
) -> str:
    """Return what the rows of a model depend on, as a name."""
    told = {"loss": asdict(loss), "at": list(at), "seed": seed}
    return identity_hash(
        {**told, "model": describe(model).fingerprint, "images": images.fingerprint()}
    )[:16]


def _name(row: int) -> str:
    return f"row-{row:03d}.json"


def _view(name: str, rows: Folder, at: Sequence[float], radii: Sequence[float]) -> SurfaceView:
    losses = np.array([_read(rows, n, len(at)) for n in range(len(at))], dtype=np.float64)
    axis = np.array(at)
    rises = {radius: mean_rise(losses, axis, radius) for radius in radii}
    return SurfaceView(name, axis, losses, rises)


def _read(rows: Folder, number: int, length: int) -> Row:
    try:
        row = _ROW.validate_python(rows.read_json(_name(number)))
    except ValidationError:
        row = []
    if len(row) != length:
        raise InputError(f"{rows}/{_name(number)}: is damaged: delete it, and it is computed again")
    return row
