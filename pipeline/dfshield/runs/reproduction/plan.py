"""What is still to be done for tables and figures, run by run, and what it would cost here."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from dfshield.config import Config
from dfshield.experiments import WAYS, Cell, FigureExperiment, TableExperiment, ToyExperiment
from dfshield.runs.layout import RunLayout
from dfshield.runs.names import PAGE, SYNTHETIC
from dfshield.runs.reproduction.cells import AXIS, Reproduction, reproduced_folder
from dfshield.runs.reproduction.costs import Cost, Costs
from dfshield.runs.sweep.plan import Trial, source_key
from dfshield.runs.sweep.sources import SETS, changed_by
from dfshield.runs.sweep.sweep import sweep_folder
from dfshield.storage import MANIFEST, Folder, SurrogateDataset

_OF_AUGMENT = ("synthesis.augment", "synthesis.data")


@dataclass(frozen=True)
class PlannedRun:
    """A student, or a set of images, of a table or a figure.

    Attributes:
        id: of the table or figure.
        cell: what it is of, by its keys.
        settings: that it is run with, over the scale's.
        done: how many of its seeds are there.
        seeds: how many there are in all.
        cost: of what is left, where nothing before it in the plan does that already.
    """

    id: str
    cell: str
    settings: str
    done: int
    seeds: int
    cost: Cost

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON value."""
        told = {"id": self.id, "cell": self.cell, "settings": self.settings}
        counted = {"done": self.done, "seeds": self.seeds, "seconds": self.cost.seconds}
        return {**told, **counted, "uncounted": list(self.cost.uncounted)}


@dataclass
class Planner:
    """Tells of tables and figures what is left of them; what one would do, another does not.

    Attributes:
        costs: measures what is left.
        anew: tell what it is from nothing, whatever is there.
    """

    costs: Costs
    anew: bool = False
    _planned: set[tuple[str, str]] = field(default_factory=set)

    def runs(self, found: Reproduction) -> Iterator[PlannedRun]:
        """Give the runs of a table or a figure: sets of images first, then cells in its order.

        Args:
            found: the table or figure.

        Raises:
            InputError: if a record is damaged, or a classifier cannot be built.
        """
        if isinstance(found.experiment, ToyExperiment):
            yield from self._of_toy(found, found.experiment)
            return
        yield from self._sets(found)
        if isinstance(found.experiment, FigureExperiment) and found.experiment.of_images:
            return
        cells = zip(found.records(sweep_folder(found.config)), found.names, strict=True)
        for (cell, records), name in cells:
            table = found.experiment
            if isinstance(table, TableExperiment) and table.of_teacher(cell.keys):
                yield self._of_teacher(found, table, cell)
                continue
            states = {} if self.anew else {record.name: record.state for record in records}
            done = {trial for trial, state in states.items() if state == "done"}
            trials = found.trials[name]
            yield PlannedRun(
                id=found.experiment.id,
                cell=_words(cell),
                settings=_settings(found, name),
                done=len(done),
                seeds=len(trials),
                cost=self._of_students(found, trials, done),
            )
        figure = found.experiment
        if isinstance(figure, FigureExperiment) and figure.picture.kind == "surfaces":
            yield self._surfaces(found, figure)

    def _of_teacher(self, found: Reproduction, table: TableExperiment, cell: Cell) -> PlannedRun:
        defence, shown = table.defence_of(cell.keys), self._shown(found)
        behind = "" if defence is None else f", behind {defence['name']}"
        uncounted = () if shown or defence is None else (f"attacks through {defence['name']}",)
        settings = f"the teacher{behind}"
        return PlannedRun(table.id, _words(cell), settings, int(shown), 1, Cost(0.0, uncounted))

    def _of_students(self, found: Reproduction, trials: list[Trial], done: set[str]) -> Cost:
        whole, attacks = Cost(0.0), tuple(found.attacks.values())
        shown = self._shown(found)
        for trial in trials:
            if trial.name not in done and self._first(found, trial.name):
                whole += self.costs.of_student(trial.config)
            if not (shown and trial.name in done):
                whole += self.costs.of_attacks(trial.config, attacks)
        return whole

    def _surfaces(self, found: Reproduction, figure: FigureExperiment) -> PlannedRun:
        """Return the loss around the students of a figure, which is computed row by row."""
        options = figure.options(found.scale)
        points = f"{options['points']} x {options['points']} points"
        shown, cost = self._shown(found), Cost(0.0)
        if not shown:
            passes = options["points"] ** 2 * (2 * options["num_steps"] + 1)
            images = passes * options["num_images"]
            for name in found.names:
                cost = cost + self.costs.of_passes(found.trials[name][0].config, images)
        students = len(found.names)
        return PlannedRun(
            figure.id, f"surfaces of {students} students", points, int(shown), 1, cost
        )

    def _sets(self, found: Reproduction) -> Iterator[PlannedRun]:
        """Give the sets of images that cells have in common, and those they change, each once."""
        root = sweep_folder(found.config)
        own = source_key(found.config)
        groups: dict[str, list[tuple[str, Config]]] = {}
        for name, (trial, *_) in found.trials.items():
            if trial.config.surrogate:
                for one in (*changed_by(trial), trial):
                    groups.setdefault(source_key(one.config), []).append((name, one.config))
        for key, group in groups.items():
            largest = max((one for _, one in group), key=lambda one: one.synthesis.num_images)
            run = RunLayout.of(found.config).root if key == own else root.child(SETS, key)
            there = not self.anew and _images_there(run.child(SYNTHETIC), largest)
            first = not there and self._first(found, f"{key} {largest.synthesis.num_images}")
            method = largest.synthesis.augment or largest.synthesis.method
            yield PlannedRun(
                id=found.experiment.id,
                cell=f"{largest.synthesis.num_images:,} images by {method.name}, set {key}",
                settings=_settings(found, group[0][0], of_images=largest),
                done=int(there),
                seeds=1,
                cost=self.costs.of_images(largest) if first else Cost(0.0),
            )

    def _of_toy(self, found: Reproduction, experiment: ToyExperiment) -> Iterator[PlannedRun]:
        seeds = experiment.toy.num_seeds
        shown = self._shown(found)
        cost = Cost(0.0) if shown else Cost(0.0, ("the toy, a minute or two",))
        for way, rule in WAYS.items():
            done, settings = seeds if shown else 0, f"coefficients {rule}"
            yield PlannedRun(experiment.id, way, settings, done, seeds, cost)

    def _shown(self, found: Reproduction) -> bool:
        """Return whether its page is there."""
        name = f"{found.experiment.id}/{PAGE}"
        return not self.anew and reproduced_folder(found.config).exists(name)

    def _first(self, found: Reproduction, what: str) -> bool:
        """Return whether nothing planned before does this, and remember that it is planned."""
        key = (found.config.sweep.name, what)
        known = key in self._planned
        self._planned.add(key)
        return not known


def _words(cell: Cell) -> str:
    return ", ".join(str(key) for key in cell.keys.values())


def _settings(found: Reproduction, name: str, *, of_images: Config | None = None) -> str:
    """Return the settings of a case over the scale's, in words: all, or those of its images."""
    case = found.config.sweep.cases[AXIS][name]
    if of_images is not None:
        case = {path: value for path, value in case.items() if path.startswith("synthesis.")}
        if of_images.synthesis.augment is None:  # perhaps what a case's augmentation changes
            case = {path: v for path, v in case.items() if not path.startswith(_OF_AUGMENT)}
    return ", ".join(f"{path} {value}" for path, value in case.items()) or "as the scale"


def _images_there(folder: Folder, config: Config) -> bool:
    """Return whether a set has all the images that a configuration wants."""
    if not folder.exists(MANIFEST):
        return False
    data = SurrogateDataset.open(folder)
    missing = {part.path for part in data.missing("data")}
    there = sum(p.num_images for p in data.manifest.split("data") if p.path not in missing)
    return there >= config.synthesis.num_images


def total(runs: Iterable[PlannedRun]) -> Cost:
    """Return what is left of all runs together."""
    whole = Cost(0.0)
    for run in runs:
        whole += run.cost
    return whole
