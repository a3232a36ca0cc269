"""The cells of tables and figures as the cases of a sweep, which all of one scale share."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from dfshield.canonical import identity_hash
from dfshield.config import (
    Config,
    VariantConfig,
    apply_override,
    config_from,
    merged_trees,
)
from dfshield.errors import InputError
from dfshield.experiments import (
    OWN,
    Cell,
    Experiment,
    Scale,
    filled,
)
from dfshield.runs.identity import flatten, nested
from dfshield.runs.layout import RunLayout
from dfshield.runs.sweep.plan import Trial, listed_trials
from dfshield.runs.sweep.record import TrialRecord, read_trial
from dfshield.storage import Folder

AXIS = "cell"
REPRODUCED = "reproduced"
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

    Of another teacher, or another variant of a family, all are kept: it replaces that of the scale
    whole.
    """
    flat = dict(flatten(tree))
    marks = [path for path in flat if path == "teacher.source" or path.endswith(".name")]
    replaced = tuple(f"{p.rpartition('.')[0]}." for p in marks if flat[p] != known.get(p))
    return {
        path: value
        for path, value in flat.items()
        if known.get(path, known.get(f"{path}.name")) != value or path.startswith(replaced)
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


def reproduced_folder(config: Config) -> Folder:
    """Return the folder of a run that has one for every table and figure, and a page of links."""
    return RunLayout.of(config).root.child(REPRODUCED)
