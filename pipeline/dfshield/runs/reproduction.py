"""Running the cells of the paper's tables: students of one sweep, which all tables share."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfshield.canonical import identity_hash
from dfshield.config import Config, apply_override, config_from, merged_trees
from dfshield.errors import InputError
from dfshield.experiments import OWN, Cell, Experiment, Scale, filled
from dfshield.report.reproduced import Figure, ReproducedTable, Row, pooled
from dfshield.results.data_free import REFERENCE_MARK
from dfshield.runs.identity import flatten, nested
from dfshield.runs.inputs.evaluation_images import require_evaluation_data
from dfshield.runs.inputs.real_data import require_there
from dfshield.runs.inputs.teacher_source import weights_path
from dfshield.runs.sweep.plan import Trial, listed_trials
from dfshield.runs.sweep.record import TrialRecord, read_trial
from dfshield.runs.sweep.sweep import sweep_folder
from dfshield.storage import Folder

AXIS = "cell"
_NAMES = 40


@dataclass(frozen=True)
class Reproduction:
    """A table at a scale, as a sweep.

    Attributes:
        experiment: the table.
        scale: how large.
        config: of the sweep; its cases are the cells.
        names: the case of every cell, in order; cells that are the same have the same.
        cells: of the table.
    """

    experiment: Experiment
    scale: Scale
    config: Config
    names: tuple[str, ...]
    cells: tuple[Cell, ...]

    @property
    def trials(self) -> dict[str, list[Trial]]:
        """The trials of every case, one a seed.

        Raises:
            InputError: if one is refused, naming the key.
        """
        found: dict[str, list[Trial]] = {}
        for trial in listed_trials(self.config):
            found.setdefault(trial.values[f"cases.{AXIS}"], []).append(trial)
        return found

    def records(self, root: Folder) -> Iterator[tuple[Cell, list[TrialRecord]]]:
        """Give what is recorded of every cell in the folder of the sweep."""
        trials = self.trials
        for cell, name in zip(self.cells, self.names, strict=True):
            known = (read_trial(root, trial.name) for trial in trials[name])
            yield cell, [record for record in known if record is not None]


def reproduction(
    experiment: Experiment,
    scale: Scale,
    *,
    seeds: Sequence[int] = (0,),
    only: Iterable[str] = (),
    overrides: Iterable[str] = (),
) -> Reproduction:
    """Return a table at a scale as a sweep.

    Students are known by the settings in which they differ from the scale's, so tables that have
    the same cell share it: all tables of a scale that are measured alike are one sweep.

    Args:
        experiment: the table.
        scale: how large.
        seeds: of the trainings.
        only: keys, such as a data set, a model or a method: cells that have all of them.
        overrides: ``KEY=VALUE``, over the settings of the scale.

    Raises:
        InputError: for a key that no cell has, or settings that are refused.
    """
    base = _base(experiment, scale, overrides)
    config = config_from(base, where=f"{experiment.id} at scale {scale.name}")
    known = dict(flatten(config.model_dump(mode="json", exclude={"sweep"})))
    cells = tuple(_chosen(experiment.cells(scale), list(only)))
    cases: dict[str, dict[str, Any]] = {}
    names = []
    for cell in cells:
        settings = _differing(_settings(cell, known), known)
        readable = "-".join(str(cell.keys[field]) for field in ("data", "model"))
        name = f"{readable[:_NAMES]}-{identity_hash(settings)[:10]}"
        cases[name] = settings
        names.append(name)
    sweep = {"name": _sweep_name(experiment), "seeds": list(seeds), "cases": {AXIS: cases}}
    whole = config_from({**base, "sweep": sweep}, where=f"{experiment.id} at scale {scale.name}")
    return Reproduction(experiment, scale, whole, tuple(names), cells)


def _base(experiment: Experiment, scale: Scale, overrides: Iterable[str]) -> dict[str, Any]:
    tree: dict[str, Any] = {"name": f"reproduce-{scale.name}", **deepcopy(scale.base)}
    tree = merged_trees(tree, scale.places[0].settings)
    tree = merged_trees(tree, experiment.base)
    for override in overrides:
        apply_override(tree, override)
    return tree


def _sweep_name(experiment: Experiment) -> str:
    """Return the name of the sweep: tables that are measured in another way have another."""
    return "cells" + (f"-{identity_hash(experiment.base)[:8]}" if experiment.base else "")


def _settings(cell: Cell, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a cell as nested sections."""
    tree = merged_trees({}, cell.place.settings)
    for path, value in cell.settings.items():
        given = filled(value, cell.place.real)
        if given == OWN:
            given = known[path]
        tree = merged_trees(tree, nested({path: given}))
    return tree


def _differing(tree: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that the scale does not have already, by path.

    Of another teacher all are kept: it replaces that of the scale whole.
    """
    flat = dict(flatten(tree))
    other = flat.get("teacher.source", known["teacher.source"]) != known["teacher.source"]
    return {
        path: value
        for path, value in flat.items()
        if known.get(path, known.get(f"{path}.name")) != value
        or (other and path.startswith("teacher."))
    }


def _chosen(cells: Iterable[Cell], only: Sequence[str]) -> Iterator[Cell]:
    """Give the cells that have all of the keys.

    Raises:
        InputError: naming a key that no cell has, with those that there are.
    """
    listed = list(cells)
    known = dict.fromkeys(str(key) for cell in listed for key in cell.keys.values())
    for key in only:
        if key not in known:
            raise InputError(f"--only: no cell has {key!r}: known are {', '.join(known)}")
    for cell in listed:
        if set(only) <= {str(key) for key in cell.keys.values()}:
            yield cell


def planned(found: Reproduction) -> list[dict[str, Any]]:
    """Return every cell in words: what it is, what it is run with, how many seeds are done."""
    root = sweep_folder(found.config)
    trials, cases = found.trials, found.config.sweep.cases[AXIS]
    plan = []
    for (cell, records), name in zip(found.records(root), found.names, strict=True):
        settings = ", ".join(f"{path} {value}" for path, value in cases[name].items())
        plan.append(
            {
                "table": found.experiment.id,
                "cell": ", ".join(str(key) for key in cell.keys.values()),
                "settings": settings or "as the scale",
                "done": sum(record.state == "done" for record in records),
                "seeds": len(trials[name]),
            }
        )
    return plan


def missing_files(found: Reproduction) -> list[str]:
    """Return what the cells want and is not there, each once, in the words of the errors."""
    missing: dict[str, None] = {}
    for trials in found.trials.values():
        for check in _checks(trials[0].config):
            try:
                check()
            except InputError as error:
                missing[str(error)] = None
    return list(missing)


def _checks(config: Config) -> Iterator[Callable[[], object]]:
    """Give what looks for each file that a configuration names, without reading any."""
    teacher, images = config.teacher, config.training.images
    if teacher.weights not in (None, "download"):
        yield lambda: _require_weights(config)
    if teacher.train is not None:
        train = teacher.train
        yield lambda: require_there(train.data, key="teacher.train.data")
    if images is not None:
        yield lambda: require_there(images.data, key="training.images.data")
    yield lambda: require_evaluation_data(config)


def _require_weights(config: Config) -> None:
    path = weights_path(config)
    if path is not None and "://" not in path and not Path(path).exists():
        raise InputError(f"teacher.weights: {path}: no such file or folder")


def reproduced_table(found: Reproduction, root: Folder, *, command: str) -> ReproducedTable:
    """Return what the cells came to, beside the paper's numbers.

    Args:
        found: the table.
        root: of the sweep.
        command: that runs it, for the page.

    Raises:
        InputError: if a record is damaged.
    """
    experiment, seeds = found.experiment, len(found.config.sweep.seeds or (0,))
    rows = tuple(_row(experiment, cell, records, seeds) for cell, records in found.records(root))
    return ReproducedTable(
        table=experiment.table,
        scale=found.scale.name,
        told=found.scale.told,
        rows=rows,
        missing=experiment.missing(found.scale),
        command=command,
    )


def _row(experiment: Experiment, cell: Cell, records: Sequence[TrialRecord], seeds: int) -> Row:
    done = [record for record in records if record.state == "done"]
    figures = tuple(
        _figure(experiment, cell, metric, label, done)
        for metric, label in experiment.labels.items()
        if metric in experiment.table.metrics
    )
    failed = [record.reason for record in records if record.state == "failed"]
    state = "done" if len(done) == seeds else f"{len(done)} of {seeds} seeds"
    return Row(cell.keys, figures, _flags(done), failed[0] if failed else state)


def _flags(done: Sequence[TrialRecord]) -> tuple[str, ...]:
    """Return what has to be said of a cell."""
    flags = {
        "collapsed": any(record.collapsed for record in done),
        "below the floor": any(
            record.floor is not None and min(record.test.values(), default=1.0) < record.floor
            for record in done
        ),
        f"{REFERENCE_MARK} not data-free": not all(record.data_free for record in done),
    }
    return tuple(flag for flag, raised in flags.items() if raised)


def _figure(
    experiment: Experiment, cell: Cell, metric: str, label: str, done: Sequence[TrialRecord]
) -> Figure:
    table = experiment.table
    place = experiment.paper_place(cell.place)
    known = {name for printed in table.cells for name in printed.keys}
    keys = {**cell.keys, **place}
    printed = table.select(**{k: v for k, v in keys.items() if k in known}, metric=metric)
    theirs = printed[0] if printed else None
    return Figure(
        metric=metric,
        ours=pooled([record.test.get(label) for record in done]),
        theirs=None if theirs is None else theirs.printed,
        notes=() if theirs is None else table.notes_of(theirs),
        compares=not cell.place.stands_for,
    )
