"""Stage ``evaluate``: teacher and student on real images, clean and attacked, slice by slice."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfshield.accelerated_model import AcceleratedModel, accelerable
from dfshield.acceleration import Acceleration
from dfshield.attacks import PGD, Attack, make_attack
from dfshield.classifiers import Classifier
from dfshield.config import (
    AttackConfig,
    Config,
    EngineConfig,
    EvaluationData,
    ThreatConfig,
    expand,
)
from dfshield.datasets import ImageSet
from dfshield.errors import InputError
from dfshield.evaluation import (
    DataInfo,
    EvaluationResult,
    SliceResult,
    evaluate_slice,
    slice_bounds,
    summarise,
)
from dfshield.runs.classifier_folder import load_classifier
from dfshield.runs.context import RunContext
from dfshield.runs.engine_plan import multiply_adds, planned_engine
from dfshield.runs.executor import Engine, Worker
from dfshield.runs.realdata import fitted, located, read_images
from dfshield.runs.student import trained_student
from dfshield.runs.teacher import load_teacher
from dfshield.seeds import Stage, derived_seed
from dfshield.storage import Folder, identity_hash

INDEX = "index.txt"
"""Names of the results of the last evaluation; the folder may hold those of earlier settings."""


def attacks_of(config: Config) -> list[Attack]:
    """Return the attacks of the evaluation; norm, eps and step default to the threat model's.

    Raises:
        InputError: for an unknown attack or option, naming it.
    """
    return [
        _attack(attack, config.threat, key=f"evaluation.attacks.{index}")
        for index, attack in enumerate(config.evaluation.attacks)
    ]


def _attack(attack: AttackConfig, threat: ThreatConfig, *, key: str) -> Attack:
    options: dict[str, Any] = {"eps": threat.eps, "norm": threat.norm}
    if attack.name == "pgd" and threat.step is not None and "eps" not in attack.options:
        options["step"] = threat.step
    try:
        return make_attack(attack.name, **{**options, **attack.options})
    except InputError as error:
        raise InputError(f"{key}: {error}") from None


def require_evaluation_data(config: Config) -> EvaluationData:
    """Return the section that names the test images, without reading one.

    Raises:
        InputError: if it is missing, or its path does not exist.
    """
    data = config.evaluation.data
    if data is None:
        raise InputError("evaluation.data: name the real images to measure on, such as digits")
    if data.path is not None:
        path = Path(expand(data.path, key="evaluation.data.path"))
        if not path.exists():
            raise InputError(f"evaluation.data.path: {path}: no such file or folder")
    return data


def real_images(config: Config, classifier: Classifier) -> ImageSet:
    """Return the test images as the configuration asks for them.

    Raises:
        InputError: if they are not configured, missing, or do not fit the classifier.
    """
    data, key = require_evaluation_data(config), "evaluation.data"
    images = fitted(read_images(data, split=data.split, key=key), classifier, key=key)
    if config.evaluation.num_images is None:
        return images
    return images.stratified(config.evaluation.num_images, seed=config.all_seeds[0])


@dataclass(frozen=True)
class SliceTask:
    """Attacks slices of the test images; a unit is the index of a slice."""

    config: Config
    model: str
    attack: Attack | None
    seed: int
    acceleration: Acceleration

    def prepare(self, worker: Worker) -> Callable[[int], SliceResult]:
        """Load model and images onto the worker."""
        classifier = load_classifier(Folder.at(self.model), device=worker.device)
        images = real_images(self.config, classifier)
        size = self.config.evaluation.slice_size
        bounds = slice_bounds(len(images), size)
        attacked = None
        if accelerable(classifier, self.acceleration, otherwise="it is attacked as it is"):
            attacked = AcceleratedModel(
                classifier,
                image_shape=classifier.input_shape,
                full_size=min(size, len(images)),
                acceleration=self.acceleration,
            )

        def measure(index: int) -> SliceResult:
            x, y = images.tensors(bounds[index])
            result = evaluate_slice(
                classifier,
                x,
                y,
                self.attack,
                seed=derived_seed(self.seed, Stage.EVALUATION, index),
                attacked=attacked,
            )
            worker.monitor.advance(float(len(y)))
            return result

        return measure

    def label(self, unit: int) -> str:
        """Return how people call a slice."""
        return f"slice {unit}"


def evaluation_stage(context: RunContext, seed: int) -> list[EvaluationResult]:
    """Measure the models under every attack; what has been measured is not repeated.

    Returns:
        One result per model and attack, clean first.
    """
    models = [_subject(context, name, seed) for name in context.config.evaluation.models]
    images = real_images(context.config, models[0].classifier)
    info = DataInfo(
        name=images.name,
        split=images.split,
        fingerprint=images.fingerprint(),
        num_images=len(images),
    )
    attacks: list[Attack | None] = [None, *attacks_of(context.config)]
    measured = [
        _measured(context, seed, model, attack, info) for attack in attacks for model in models
    ]
    index = "".join(f"{name}\n" for name, _ in measured).encode()
    folder = context.layout.evaluation(seed)
    if not folder.exists(INDEX) or folder.read_bytes(INDEX) != index:
        folder.write_bytes(INDEX, index)
    return [result for _, result in measured]


@dataclass(frozen=True)
class _Subject:
    """A model to measure: what it is called, where it lies, what it is, its fingerprint."""

    name: str
    folder: Folder
    classifier: Classifier
    fingerprint: str


def _subject(context: RunContext, name: str, seed: int) -> _Subject:
    if name == "student":
        folder = trained_student(context, seed)
        classifier = load_classifier(folder)
    else:
        folder, classifier = context.layout.teacher, load_teacher(context)
    return _Subject(name, folder, classifier, classifier.fingerprint())


def _measured(
    context: RunContext, seed: int, model: _Subject, attack: Attack | None, info: DataInfo
) -> tuple[str, EvaluationResult]:
    folder = context.layout.evaluation(seed)
    slice_size = context.config.evaluation.slice_size
    identity = {
        "model_fingerprint": model.fingerprint,
        "data": info.model_dump(),
        "attack": attack.describe() if attack else None,
        "seed": seed,
        "slice_size": slice_size,
    }
    # The identity is part of the name: other settings are measured beside, not over, these.
    name = f"{model.name}-{attack.slug if attack else 'clean'}-{identity_hash(identity)[:8]}"
    if folder.exists(f"{name}.json"):
        return name, _read(folder, name)
    slices = _slices(context, folder.child("slices", name), model, attack, info.num_images, seed)
    result = summarise(
        slices,
        attack=attack,
        data=info,
        model=model.name,
        model_fingerprint=model.fingerprint,
        seed=seed,
        slice_size=slice_size,
    )
    folder.write_bytes(f"{name}.json", (result.to_json() + "\n").encode())
    context.log.emit(
        "evaluated", seed=seed, model=model.name, attack=result.label, accuracy=result.accuracy
    )
    return name, result


def _read(folder: Folder, name: str) -> EvaluationResult:
    path = f"{name}.json"
    return EvaluationResult.from_json(
        folder.read_bytes(path).decode(errors="replace"), source=f"{folder}/{path}"
    )


def _slices(
    context: RunContext,
    folder: Folder,
    model: _Subject,
    attack: Attack | None,
    num_images: int,
    seed: int,
) -> list[SliceResult]:
    bounds = slice_bounds(num_images, context.config.evaluation.slice_size)
    done = {
        index: _read_slice(folder, f"{index:05d}.json")
        for index in range(len(bounds))
        if folder.exists(f"{index:05d}.json")
    }
    observer = context.observer
    title = f"{attack.label if attack else 'Clean'}, {model.name}"
    measured = sum(len(result.labels) for result in done.values())
    todo = [[index] for index in range(len(bounds)) if index not in done]
    if not todo:  # do not start workers for nothing
        return [done[index] for index in sorted(done)]
    engine = attack_engine(context.executor.engine(), model.classifier, attack, num_images)
    observer.begin(title, total=num_images, done=measured, unit="images")
    units = context.executor.map(
        SliceTask(_located(context.config), model.folder.uri, attack, seed, engine.acceleration),
        todo,
        engine=engine,
        monitor=context.monitor,
    )
    for finished in units:
        folder.write_json(f"{finished.unit:05d}.json", finished.result.to_json())
        done[finished.unit] = finished.result
    observer.end()
    return [done[index] for index in sorted(done)]


def attack_engine(
    here: Engine, classifier: Classifier, attack: Attack | None, num_images: int
) -> Engine:
    """Return what an attack on so many images is computed with: float32 always.

    A PGD that is long enough is compiled; PGD alone, since other attacks go on with the images that
    are left, and their number changes.
    """
    if not isinstance(attack, PGD):
        return here
    passes = 2.0 * attack.steps * attack.restarts  # backward to the images costs what forward does
    work = passes * num_images * multiply_adds(classifier)
    return planned_engine(here, EngineConfig(precision="float32"), work=work)


def _located(config: Config) -> Config:
    data = located(require_evaluation_data(config), key="evaluation.data")
    evaluation = config.evaluation.model_copy(update={"data": data})
    return config.model_copy(update={"evaluation": evaluation})


def _read_slice(folder: Folder, name: str) -> SliceResult:
    try:
        return SliceResult.from_json(folder.read_json(name))
    except InputError as error:
        text = f"{folder}/{name}: {error}; delete the file to measure the slice again"
        raise InputError(text) from None


def read_results(context: RunContext, seed: int) -> list[EvaluationResult]:
    """Return the results of the last evaluation of a seed; needs no real image.

    Raises:
        InputError: if there is none, or a result is damaged.
    """
    folder = context.layout.evaluation(seed)
    if not folder.exists(INDEX):
        raise InputError(f"{folder} holds no results yet: run `dfshield evaluate` first")
    names = folder.read_bytes(INDEX).decode(errors="replace").split()
    return [_read(folder, name) for name in names]
