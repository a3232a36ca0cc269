"""The cells of tables and figures as the cases of a sweep, which all of one scale share."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from dfshield.canonical import identity_hash
from dfshield.config import (
    Config,
    DataConfig,
    VariantConfig,
    apply_override,
    config_from,
    merged_trees,
)
from dfshield.errors import InputError
from dfshield.experiments import (
    OWN,
    WAYS,
    Cell,
    Experiment,
    FigureExperiment,
    Scale,
    ToyExperiment,
    filled,
)
from dfshield.runs.identity import flatten, nested
from dfshield.runs.inputs.evaluation_images import require_evaluation_data
from dfshield.runs.inputs.real_data import require_there
from dfshield.runs.inputs.teacher_source import weights_path
from dfshield.runs.layout import RunLayout
from dfshield.runs.names import PAGE
from dfshield.runs.sweep.plan import Trial, listed_trials
from dfshield.runs.sweep.record import TrialRecord, read_trial
from dfshield.runs.sweep.sweep import sweep_folder
from dfshield.storage import Folder

AXIS = "cell"
REPRODUCED = "reproduced"
REAL = "train"
"""What scales call the real training images of a place."""
_NAMES = 40


@dataclass(frozen=True)
class Reproduction:
    """A table or a figure at a scale, as a sweep.

    Attributes:
        experiment: what it is.
        scale: how large.
        config: of the sweep; its cases are the cells. One without cells has no sweep.
        names: the case of every cell, in order; cells that are the same have the same.
        cells: its own.
        attacks: that the students meet beside those of the scale, by metric.
        overrides: ``KEY=VALUE``, over the settings of the scale.
    """

    experiment: Experiment
    scale: Scale
    config: Config
    names: tuple[str, ...]
    cells: tuple[Cell, ...]
    attacks: Mapping[str, VariantConfig]
    overrides: tuple[str, ...]

    @property
    def told(self) -> str:
        """What is smaller than in the paper, and what was changed of the scale."""
        elsewhere = ("cluster.", "storage.path=", "name=", "sweep.name=")
        changed = [one for one in self.overrides if not one.startswith(elsewhere)]
        return f"{self.scale.told} Changed: {', '.join(changed)}." if changed else self.scale.told

    @cached_property
    def trials(self) -> dict[str, list[Trial]]:
        """The trials of every case, one a seed.

        Raises:
            InputError: if one is refused, naming the key.
        """
        found: dict[str, list[Trial]] = {}
        for trial in listed_trials(self.config) if self.cells else ():
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
    """Return a table or a figure at a scale as a sweep.

    Students are known by the settings in which they differ from the scale's, so experiments that
    have the same cell share it: all of a scale that are measured alike are one sweep.

    Args:
        experiment: what it is.
        scale: how large.
        seeds: of the trainings.
        only: keys, such as a data set, a model or a method: cells that have all of them.
        overrides: ``KEY=VALUE``, over the settings of the scale.

    Raises:
        InputError: for a scale or a key that no cell has, or settings that are refused.
    """
    given = tuple(overrides)
    base = _base(experiment, scale, given)
    config = config_from(base, where=f"{experiment.id} at scale {scale.name}")
    known = dict(flatten(config.model_dump(mode="json", exclude={"sweep"})))
    cells = tuple(_chosen(experiment.require_cells(scale), list(only)))
    cases: dict[str, dict[str, Any]] = {}
    names = []
    for cell in cells:
        settings = _differing(_settings(cell, known), known)
        readable = "-".join(str(cell.keys[field]) for field in ("data", "model"))
        name = f"{readable[:_NAMES]}-{identity_hash(settings)[:10]}"
        cases[name] = settings
        names.append(name)
    own = {"name": _sweep_name(experiment), **base.get("sweep", {})}
    sweep = {**own, "seeds": list(seeds), "cases": {AXIS: cases} if cases else {}}
    whole = config_from({**base, "sweep": sweep}, where=f"{experiment.id} at scale {scale.name}")
    attacks = dict(zip(experiment.attacks, _attacks(experiment, base), strict=True))
    return Reproduction(experiment, scale, whole, tuple(names), cells, attacks, given)


def _attacks(experiment: Experiment, base: Mapping[str, Any]) -> tuple[VariantConfig, ...]:
    """Return the attacks of an experiment as a configuration has them."""
    tree = merged_trees(base, {"evaluation": {"attacks": list(experiment.attacks.values())}})
    return config_from(tree, where=f"{experiment.id}: attacks").evaluation.attacks


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
        given = filled(value, cell.named)
        if given == OWN:
            given = known[path]
        if isinstance(given, Mapping) and "name" in given:
            tree = _without_path(tree, path)  # options of one mean nothing to another
        tree = merged_trees(tree, nested({path: given}))
    return tree


def _without_path(tree: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Return nested sections without what is at a path, if anything is."""
    key, _, rest = path.partition(".")
    if not rest or not isinstance(tree.get(key), Mapping):
        return {name: value for name, value in tree.items() if rest or name != key}
    return {**tree, key: _without_path(tree[key], rest)}


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
    if isinstance(found.experiment, ToyExperiment):
        return _planned_toy(found, found.experiment)
    root = sweep_folder(found.config)
    trials, cases = found.trials, found.config.sweep.cases[AXIS]
    plan = []
    for (cell, records), name in zip(found.records(root), found.names, strict=True):
        settings = ", ".join(f"{path} {value}" for path, value in cases[name].items())
        plan.append(
            {
                "id": found.experiment.id,
                "cell": ", ".join(str(key) for key in cell.keys.values()),
                "settings": settings or "as the scale",
                "done": sum(record.state == "done" for record in records),
                "seeds": len(trials[name]),
            }
        )
    return plan


def _planned_toy(found: Reproduction, experiment: ToyExperiment) -> list[dict[str, Any]]:
    seeds = experiment.toy.num_seeds
    drawn = reproduced_folder(found.config).exists(f"{experiment.id}/{PAGE}")
    of_all = {"id": experiment.id, "done": seeds if drawn else 0, "seeds": seeds}
    return [{**of_all, "cell": way, "settings": f"coefficients {WAYS[way]}"} for way in WAYS]


def reproduced_folder(config: Config) -> Folder:
    """Return the folder of a run that has one for every table and figure, and a page of links."""
    return RunLayout.of(config).root.child(REPRODUCED)


def missing_files(found: Reproduction) -> list[str]:
    """Return what the cells want and is not there, each once, in the words of the errors."""
    missing: dict[str, None] = {}
    checks = [check for trials in found.trials.values() for check in _checks(trials[0].config)]
    if isinstance(found.experiment, FigureExperiment) and found.experiment.picture.kind == "plane":
        checks += [partial(real_training_images, cell) for cell in found.cells]
    for check in checks:
        try:
            check()
        except InputError as error:
            missing[str(error)] = None
    return list(missing)


def real_training_images(cell: Cell) -> tuple[DataConfig, str]:
    """Return the real training images of a cell's place, and their split.

    Raises:
        InputError: if the scale names none there, or they are not there.
    """
    given = cell.place.named.get(REAL)
    if given is None:
        raise InputError(f"--scale: it names no training images of {cell.place.data}")
    data = DataConfig(name=given["name"], path=given.get("path"))
    require_there(data, key=f"${REAL}")
    return data, given["split"]


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
