"""Models under one attack on all test images: slices for the workers, files that are kept."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from dfshield.attacks import Attack
from dfshield.classifiers import Architecture, Classifier, Description
from dfshield.defences import Defence
from dfshield.errors import InputError
from dfshield.evaluation import (
    EvaluationResult,
    SliceResult,
    image_records,
    slice_bounds,
    summarise,
)
from dfshield.results import NOT_DATA_FREE
from dfshield.runs.context import RunContext
from dfshield.runs.execution.engine import Engine
from dfshield.runs.inputs.attack_plans import AttackPlan
from dfshield.runs.inputs.classifier_folder import describe, load_classifier
from dfshield.runs.inputs.defences import defence_identity, defence_label, told_of_defence
from dfshield.runs.inputs.evaluation_images import RealImages, located_images
from dfshield.runs.names import SLICES
from dfshield.runs.work.attack_engine import attack_engine
from dfshield.runs.work.result_files import read_result, result_name, write_result
from dfshield.runs.work.slices import Attacked, SliceTask, adversarial_name
from dfshield.storage import Folder


@dataclass(frozen=True)
class Subject:
    """A model to measure.

    Attributes:
        name: what it is called.
        folder: where it lies.
        surrogate: the folder of another model of the same images, whose adversarial images are
            tried on it; None if there is none.
        defence: what it is measured behind; None if it is measured by itself.
    """

    name: str
    folder: Folder
    surrogate: Folder | None = None
    defence: Defence | None = None

    @cached_property
    def described(self) -> Description:
        """What the folder says of it; its weights are not read."""
        return describe(self.folder)

    @property
    def architecture(self) -> Architecture:
        """How it is built, and what it takes."""
        return self.described.architecture

    @property
    def fingerprint(self) -> str:
        """The fingerprint of architecture and weights."""
        return self.described.fingerprint

    @cached_property
    def classifier(self) -> Classifier:
        """What lies there."""
        return load_classifier(self.folder)

    def behind(self, defence: Defence) -> "Subject":
        """Return this model behind a defence.

        The adversarial images of another model are then those of this one by itself: an attack that
        does not know of the defence.
        """
        name = f"{self.name}+{defence_label(defence)}"
        return replace(self, name=name, surrogate=self.folder, defence=defence)


def measured(
    context: RunContext,
    seed: int,
    wanted: Sequence[tuple[Subject, AttackPlan | None]],
    images: RealImages,
) -> list[tuple[str, EvaluationResult]]:
    """Measure models, each under an attack, unless that has been done.

    They are measured side by side: no worker waits for the last slice of one model before it begins
    with the next.

    Returns:
        Results and their names, in the order of ``wanted``. ``NAME.json`` is a result,
        ``NAME.parquet`` has one row per image, ``slices/NAME`` the slices and, where
        ``evaluation.keep_adversarial`` asks for them, the adversarial images.
    """
    asked = [_Measurement.of(context, seed, model, plan, images) for model, plan in wanted]
    missing = [measurement for measurement in asked if not measurement.is_complete]
    found: dict[str, EvaluationResult] = {}
    for engine in dict.fromkeys(m.engine for m in missing):
        found |= _work(context, [m for m in missing if m.engine == engine], engine)
    return [(m.name, found.get(m.name) or read_result(m.folder, m.name)) for m in asked]


def _work(
    context: RunContext, measurements: Sequence["_Measurement"], engine: Engine
) -> dict[str, EvaluationResult]:
    """Measure the slices that are missing, and write each result when its last slice is there.

    Returns:
        The results by name.
    """
    found: dict[str, EvaluationResult] = {}
    done = [measurement.slices_done() for measurement in measurements]
    todo = [
        (place, index)
        for place, measurement in enumerate(measurements)
        for index in range(len(measurement.bounds))
        if index not in done[place]
    ]
    for place, measurement in enumerate(measurements):
        if len(done[place]) == len(measurement.bounds):
            found[measurement.name] = measurement.finish(done[place].values())
    if not todo:  # do not start workers for nothing
        return found
    first = measurements[0]
    context.observer.begin(
        f"{first.attack_label}, {' and '.join(m.model.name for m in measurements)}",
        total=len(measurements) * len(first.images.images),
        done=sum(len(result.labels) for of_one in done for result in of_one.values()),
        unit="images",
    )
    task = SliceTask(
        located_images(context.config, first.model.architecture),
        tuple(measurement.attacked() for measurement in measurements),
        first.seed,
        engine.acceleration,
    )
    units = context.executor.map(
        task, [[unit] for unit in todo], engine=engine, monitor=context.monitor
    )
    for finished in units:
        place, index = finished.unit
        measurement, slices = measurements[place], done[place]
        own = finished.result.engine or {}  # what the worker's memory has led to
        result = replace(finished.result, engine={**_described(engine), **own})
        measurement.slices.write_json(f"{index:05d}.json", result.to_json())
        slices[index] = result
        if len(slices) == len(measurement.bounds):
            found[measurement.name] = measurement.finish(slices[i] for i in sorted(slices))
    context.observer.end()
    return found


def _described(engine: Engine) -> dict[str, object]:
    """Return what the numbers of an engine depend on."""
    left_out = () if engine.device == "cpu" else ("threads",)
    return {key: value for key, value in engine.to_json().items() if key not in left_out}


@dataclass(frozen=True)
class _Measurement:
    """One model under one attack; its result is called ``name`` in ``folder``."""

    context: RunContext
    folder: Folder
    name: str
    model: Subject
    plan: AttackPlan | None
    attack: Attack | None
    seed: int
    images: RealImages

    @classmethod
    def of(
        cls,
        context: RunContext,
        seed: int,
        model: Subject,
        plan: AttackPlan | None,
        images: RealImages,
    ) -> "_Measurement":
        attack = plan.described() if plan else None
        identity = {
            "model_fingerprint": model.fingerprint,
            "data": images.info.identity(),
            "attack": attack.identity() if attack else None,
            "seed": seed,
            "slice_size": context.config.evaluation.slice_size,
            **defence_identity(model.defence),
        }
        folder = context.layout.evaluation(seed)
        name = result_name(folder, model.name, attack, identity)
        return cls(context, folder, name, model, plan, attack, seed, images)

    @property
    def slices(self) -> Folder:
        """The folder of its slices."""
        return self.folder.child(SLICES, self.name)

    @property
    def keeps(self) -> bool:
        """Whether the adversarial images are wanted."""
        return self.context.config.evaluation.keep_adversarial and self.attack is not None

    @property
    def attack_label(self) -> str:
        """What people call the attack."""
        return self.attack.label if self.attack else "Clean"

    @cached_property
    def bounds(self) -> Sequence[slice]:
        """The images of every slice."""
        size = self.context.config.evaluation.slice_size
        return slice_bounds(len(self.images.images), size)

    @property
    def is_complete(self) -> bool:
        """Whether the result is there, and the adversarial images where they are wanted."""
        if not all(self.folder.exists(f"{self.name}.{kind}") for kind in ("json", "parquet")):
            return False
        return not self.keeps or all(map(self._is_done, range(len(self.bounds))))

    @cached_property
    def engine(self) -> Engine:
        """What it is computed with."""
        executor, total = self.context.executor, len(self.images.images)
        return attack_engine(
            executor.engine(),
            self.model.classifier,
            self.attack,
            total,
            can=executor.abilities,
        )

    def attacked(self) -> Attacked:
        """Return what a worker is told."""
        return Attacked(
            f"{self.attack_label}, {self.model.name}",
            self.model.folder.uri,
            self.model.defence,
            self.plan,
            self.slices.uri if self.keeps else None,
        )

    def slices_done(self) -> dict[int, SliceResult]:
        """Return the slices that have been measured and whose images, where wanted, are there."""
        return {i: self._read(f"{i:05d}.json") for i in range(len(self.bounds)) if self._is_done(i)}

    def _is_done(self, index: int) -> bool:
        if self.keeps and not self.slices.exists(adversarial_name(index)):
            return False
        return self.slices.exists(f"{index:05d}.json")

    def _read(self, name: str) -> SliceResult:
        try:
            return SliceResult.from_json(self.slices.read_json(name))
        except InputError as error:
            text = f"{self.slices}/{name}: {error}; delete the file to measure the slice again"
            raise InputError(text) from None

    def finish(self, results: Iterable[SliceResult]) -> EvaluationResult:
        """Write what the slices come to, in their order, and return it."""
        slices = list(results)
        result = summarise(
            slices,
            attack=self.attack,
            data=self.images.info,
            model=self.model.name,
            model_fingerprint=self.model.fingerprint,
            seed=self.seed,
            slice_size=self.context.config.evaluation.slice_size,
        )
        data_free = self.model.described.data_free
        said = (NOT_DATA_FREE,) if data_free is False else ()
        result = result.model_copy(update={"data_free": data_free, "notes": (*result.notes, *said)})
        if self.model.defence is not None:
            result = told_of_defence(result, self.model.defence, self.attack)
        rows = image_records(slices, attack=result.label, index=self.images.index)
        write_result(self.folder, self.name, result, rows)
        self.context.log.emit(
            "evaluated",
            seed=self.seed,
            model=self.model.name,
            attack=result.label,
            accuracy=result.accuracy,
        )
        return result
