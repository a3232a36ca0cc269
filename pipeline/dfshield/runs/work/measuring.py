"""One model under one attack on all test images: slices for the workers, files that are kept."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from safetensors.torch import save
from torch import Tensor

from dfshield.attacks import Attack
from dfshield.classifiers import Architecture, Classifier, Description
from dfshield.config import Config, EngineConfig
from dfshield.defences import DEFENCES, Defence
from dfshield.engine.accelerated_model import AcceleratedModel, accelerable
from dfshield.engine.acceleration import Acceleration
from dfshield.errors import InputError
from dfshield.evaluation import (
    EvaluationResult,
    SliceResult,
    evaluate_slice,
    image_records,
    slice_bounds,
    summarise,
)
from dfshield.results import NOT_DATA_FREE
from dfshield.runs.context import RunContext
from dfshield.runs.execution.engine import Engine
from dfshield.runs.execution.engine_choice import multiply_adds, planned_engine
from dfshield.runs.execution.protocol import Worker
from dfshield.runs.inputs.attack_plans import AttackPlan
from dfshield.runs.inputs.classifier_folder import describe, load_classifier
from dfshield.runs.inputs.defences import behind, defence_identity, defence_label
from dfshield.runs.inputs.evaluation_images import RealImages, located_images, real_images
from dfshield.runs.names import SLICES
from dfshield.runs.work.result_files import read_result, result_name, write_result
from dfshield.seeds import RngStream, derived_seed
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


@dataclass(frozen=True)
class SliceTask:
    """Attacks slices of the test images; a unit is the index of a slice.

    Attributes:
        model: the folder of the model.
        defence: what it is measured behind, or None.
        adversarial: the folder that takes the adversarial images; None keeps none.
    """

    config: Config
    model: str
    defence: Defence | None
    attack: AttackPlan | None
    seed: int
    adversarial: str | None
    acceleration: Acceleration

    def prepare(self, worker: Worker) -> Callable[[int], SliceResult]:
        """Load models and images onto the worker."""
        classifier = load_classifier(Folder.at(self.model), device=worker.device)
        evaluation = self.config.evaluation
        images = real_images(self.config, classifier, num_images=evaluation.num_images).images
        size = evaluation.slice_size
        bounds = slice_bounds(len(images), size)
        model, attacked = behind(classifier, self.defence), None
        if accelerable(model, self.acceleration, otherwise="it is attacked as it is"):
            attacked = AcceleratedModel(
                model,
                image_shape=classifier.input_shape,
                full_size=min(size, len(images)),
                acceleration=self.acceleration,
            )
        attack = self.attack.build(worker.device) if self.attack else None

        def measure(index: int) -> SliceResult:
            x, y = images.tensors(bounds[index])
            result = evaluate_slice(
                model,
                x,
                y,
                attack,
                seed=derived_seed(self.seed, RngStream.EVALUATION, index),
                keep=lambda x_adv: self._keep(index, x_adv),
                attacked=attacked,
            )
            worker.monitor.advance(float(len(y)))
            return result

        return measure

    def _keep(self, index: int, x_adv: Tensor) -> None:
        if self.adversarial is not None:
            content = save({"images": x_adv.cpu().contiguous()})
            Folder.at(self.adversarial).write_bytes(adversarial_name(index), content)

    def label(self, unit: int) -> str:
        """Return how people call a slice."""
        return f"slice {unit}"


def attack_engine(
    here: Engine, classifier: Classifier, attack: Attack | None, num_images: int
) -> Engine:
    """Return what an attack on so many images is computed with: float32 always.

    One that says how many passes it takes, as PGD does, is compiled where it is long enough; others
    go on with the images that are left, whose number changes.
    """
    passes = None if attack is None else attack.passes
    if passes is None:
        return here
    work = passes * num_images * multiply_adds(classifier)
    return planned_engine(here, EngineConfig(precision="float32"), work=work)


def adversarial_name(index: int) -> str:
    """Return the name of the file that holds the adversarial images of a slice."""
    return f"{index:05d}.safetensors"


def measured(
    context: RunContext, seed: int, model: Subject, plan: AttackPlan | None, images: RealImages
) -> tuple[str, EvaluationResult]:
    """Measure a model under an attack, unless that has been done; return the result and its name.

    ``NAME.json`` is the result, ``NAME.parquet`` has one row per image, ``slices/NAME`` the slices
    and, where ``evaluation.keep_adversarial`` asks for them, the adversarial images.
    """
    folder = context.layout.evaluation(seed)
    evaluation = context.config.evaluation
    attack = plan.described() if plan else None
    identity = {
        "model_fingerprint": model.fingerprint,
        "data": images.info.identity(),
        "attack": attack.identity() if attack else None,
        "seed": seed,
        "slice_size": evaluation.slice_size,
        **defence_identity(model.defence),
    }
    name = result_name(folder, model.name, attack, identity)
    measurement = _Measurement(context, folder.child(SLICES, name), model, plan, attack, seed)
    complete = folder.exists(f"{name}.json") and folder.exists(f"{name}.parquet")
    if complete and not (measurement.keeps and measurement.missing(images)):
        return name, read_result(folder, name)
    slices = measurement.slices(images)
    result = summarise(
        slices,
        attack=attack,
        data=images.info,
        model=model.name,
        model_fingerprint=model.fingerprint,
        seed=seed,
        slice_size=evaluation.slice_size,
    )
    data_free = model.described.data_free
    said = (NOT_DATA_FREE,) if data_free is False else ()
    result = result.model_copy(update={"data_free": data_free, "notes": (*result.notes, *said)})
    if model.defence is not None:
        notes = (*result.notes, *model.defence.remarks(attack))
        described = DEFENCES.describe(model.defence)
        result = result.model_copy(update={"defence": described, "notes": notes})
    write_result(
        folder, name, result, image_records(slices, attack=result.label, index=images.index)
    )
    context.log.emit(
        "evaluated", seed=seed, model=model.name, attack=result.label, accuracy=result.accuracy
    )
    return name, result


@dataclass(frozen=True)
class _Measurement:
    """The slices of one model under one attack."""

    context: RunContext
    folder: Folder
    model: Subject
    plan: AttackPlan | None
    attack: Attack | None
    seed: int

    @property
    def keeps(self) -> bool:
        """Whether the adversarial images are wanted."""
        return self.context.config.evaluation.keep_adversarial and self.attack is not None

    def missing(self, images: RealImages) -> list[int]:
        """Return the slices that have not been measured, or whose images are wanted and lost."""
        bounds = slice_bounds(len(images.images), self.context.config.evaluation.slice_size)
        return [index for index in range(len(bounds)) if not self._is_done(index)]

    def _is_done(self, index: int) -> bool:
        if self.keeps and not self.folder.exists(adversarial_name(index)):
            return False
        return self.folder.exists(f"{index:05d}.json")

    def slices(self, images: RealImages) -> list[SliceResult]:
        """Measure what is missing, and return all slices in order."""
        total, todo = len(images.images), self.missing(images)
        slice_size = self.context.config.evaluation.slice_size
        bounds = slice_bounds(total, slice_size)
        done = {
            index: self._read(f"{index:05d}.json")
            for index in range(len(bounds))
            if index not in todo
        }
        if todo:  # do not start workers for nothing
            done |= self._work(todo, done, total)
        return [done[index] for index in sorted(done)]

    def _work(
        self, todo: list[int], done: dict[int, SliceResult], total: int
    ) -> dict[int, SliceResult]:
        context, made = self.context, dict[int, SliceResult]()
        here = context.executor.engine()
        engine = attack_engine(here, self.model.classifier, self.attack, total)
        context.observer.begin(
            f"{self.attack.label if self.attack else 'Clean'}, {self.model.name}",
            total=total,
            done=sum(len(result.labels) for result in done.values()),
            unit="images",
        )
        task = SliceTask(
            located_images(context.config, self.model.architecture),
            self.model.folder.uri,
            self.model.defence,
            self.plan,
            self.seed,
            self.folder.uri if self.keeps else None,
            engine.acceleration,
        )
        units = context.executor.map(
            task, [[index] for index in todo], engine=engine, monitor=context.monitor
        )
        for finished in units:
            self.folder.write_json(f"{finished.unit:05d}.json", finished.result.to_json())
            made[finished.unit] = finished.result
        context.observer.end()
        return made

    def _read(self, name: str) -> SliceResult:
        try:
            return SliceResult.from_json(self.folder.read_json(name))
        except InputError as error:
            text = f"{self.folder}/{name}: {error}; delete the file to measure the slice again"
            raise InputError(text) from None
