"""Pictures of students: heat maps, curves, and the loss around their weights."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dfshield.config import Config
from dfshield.epsilon import parse_epsilon
from dfshield.errors import InputError
from dfshield.evaluation.surface import AdversarialLoss
from dfshield.experiments import Cell, FigureExperiment
from dfshield.report.reproduced_figure import Drawn, Panel, students_table
from dfshield.report.surface import SurfaceView, surface_figure, surface_table
from dfshield.report.sweep import SweepData, sweep_figures
from dfshield.runs.comparison.surfaces import loss_surfaces
from dfshield.runs.identity import flatten
from dfshield.runs.inputs.classifier_folder import describe
from dfshield.runs.inputs.evaluation_images import real_images
from dfshield.runs.layout import RunLayout
from dfshield.runs.reproduction.cells import AXIS, Reproduction
from dfshield.runs.sweep.begun import trials_begun
from dfshield.runs.sweep.plan import Trial
from dfshield.runs.sweep.record import read_trial, trial_folder
from dfshield.runs.sweep.reporting import sweep_data
from dfshield.runs.sweep.sweep import Sweep
from dfshield.storage import Folder

_RADII = (0.25, 0.5, 1.0)
"""Of the circles over which the rise is averaged, as shares of the span."""


def matrix(found: Reproduction, experiment: FigureExperiment, sweep: Sweep, out: Folder) -> Drawn:
    """Return students as a heat map: options ``rows`` and ``columns`` name the fields."""
    del out
    options = experiment.options(found.scale)
    return _of_students(found, experiment, sweep, [options["rows"], options["columns"]], "heatmap-")


def curves(found: Reproduction, experiment: FigureExperiment, sweep: Sweep, out: Folder) -> Drawn:
    """Return accuracy over a number as curves, one a model: option ``over`` names the field."""
    del out
    field = experiment.options(found.scale)["over"]
    several = len({cell.keys["model"] for cell in found.cells}) > 1
    return _of_students(
        found, experiment, sweep, [field, *(["model"] if several else [])], "curves-"
    )


def _of_students(
    found: Reproduction,
    experiment: FigureExperiment,
    sweep: Sweep,
    fields: Sequence[str],
    kind: str,
) -> Drawn:
    data = _by_keys(found, experiment, sweep, fields)
    drawn = next((f for name, f in sweep_figures(data).items() if name.startswith(kind)), None)
    if drawn is None:
        reasons = [trial.reason for trial in data.trials if trial.reason]
        raise InputError(f"{experiment.id}: too few students to draw: {'; '.join(reasons)}")
    table = students_table(data, dict(zip(data.parameters, fields, strict=True)))
    return [Panel(experiment.id, drawn.alt, drawn.png, drawn.svg, table)], []


def _by_keys(
    found: Reproduction, experiment: FigureExperiment, sweep: Sweep, fields: Sequence[str]
) -> SweepData:
    """Return the students as a sweep over the fields of the figure, for the pictures of sweeps."""
    records = trials_begun(found.config, sweep.root)
    whole = sweep_data(found.config, sweep.trials, records, teacher={})
    words = {"data": "Teacher of", "model": "Model", **experiment.fields}
    paths = {field: experiment.paths.get(field, words[field]) for field in fields}
    trials = tuple(
        replace(trial, values={path: cell.keys[field] for field, path in paths.items()})
        for cell, name in zip(found.cells, found.names, strict=True)
        for trial in whole.trials
        if trial.values[f"cases.{AXIS}"] == name
    )
    cells = found.cells
    parameters = {
        path: tuple(dict.fromkeys(cell.keys[field] for cell in cells))
        for field, path in paths.items()
    }
    cases = {
        path: _cases(cells, field) for field, path in paths.items() if field not in experiment.paths
    }
    return replace(whole, trials=trials, parameters=parameters, cases=cases, comparable=False)


def _cases(cells: Sequence[Cell], field: str) -> dict[str, Mapping[str, Any]]:
    """Return the keys of a field, those of places with what places set."""
    of_place = field in ("data", "model")
    return {
        str(cell.keys[field]): dict(flatten(cell.place.settings)) if of_place else {}
        for cell in cells
    }


def surfaces(found: Reproduction, experiment: FigureExperiment, sweep: Sweep, out: Folder) -> Drawn:
    """Return the loss around the weights of students of the first seed, a picture for each place.

    Options: ``points`` of each axis, ``num_images``, ``num_steps`` of PGD, ``span`` of the axes.
    """
    groups: dict[tuple[str, str], list[tuple[str, Trial]]] = {}
    for cell, name in zip(found.cells, found.names, strict=True):
        trial = found.trials[name][0]
        record = read_trial(sweep.root, trial.name)
        if record is not None and record.state == "done":
            title = ", ".join(str(cell.keys[field]) for field in experiment.fields)
            place = cell.place.data, cell.place.model
            groups.setdefault(place, []).append((title, trial))
    if not groups:
        raise InputError(f"{experiment.id}: no student is done whose loss could be drawn")
    options = experiment.options(found.scale)
    panels, findings = [], []
    for (data, model), students in groups.items():
        views = _surfaces(sweep, students, options, out)
        what = f"cross-entropy under PGD-{options['num_steps']}"
        pictures = surface_figure(views, what)
        alt = f"Contours of the {what} around the weights of each student"
        panels.append(Panel(f"{data}-{model}", alt, **pictures, csv=surface_table(views)))
        findings += [_rise(view, what) for view in views]
    return panels, findings


def _surfaces(
    sweep: Sweep, students: Sequence[tuple[str, Trial]], options: Mapping[str, Any], out: Folder
) -> tuple[SurfaceView, ...]:
    folders = [
        (title, RunLayout(trial_folder(sweep.root, t.name), (t.seed,)).student(t.seed))
        for title, t in students
    ]
    config: Config = students[0][1].config
    classifier = describe(folders[0][1]).architecture
    images = real_images(config, classifier, num_images=options["num_images"]).images
    norm, eps = config.threat.norm, parse_epsilon(config.threat.eps)
    return loss_surfaces(
        folders,
        images,
        loss=AdversarialLoss(eps, norm, options["num_steps"]),
        points=options["points"],
        span=options["span"],
        radii=[options["span"] * share for share in _RADII],
        seed=config.seed,
        executor=sweep.executor,
        observer=sweep.observer,
        out=out,
    )


def _rise(view: SurfaceView, what: str) -> str:
    rises = ", ".join(f"{rise:+.3g} at radius {radius:g}" for radius, rise in view.rises.items())
    return f"{view.name}: {what} {view.centre:.3g}; mean rise {rises}."
