"""What can be known to be wrong with a teacher and its images before a run begins."""

from collections.abc import Callable, Iterator

import torch

from dfshield.classifiers import Classifier, batchnorm_layers, probe_images, read_weights
from dfshield.config import Config, TeacherTraining, expand
from dfshield.errors import DfshieldError, InputError
from dfshield.evaluation import evaluate
from dfshield.runs.context import RunContext
from dfshield.runs.doctor.machine import HERE, Check, check
from dfshield.runs.driver.teacher import TeacherJob, is_finished
from dfshield.runs.driver.training_source import images_of_training
from dfshield.runs.execution.in_process import InProcessExecutor
from dfshield.runs.inputs.classifier_folder import load_classifier
from dfshield.runs.inputs.evaluation_images import RealImages, real_images, require_evaluation_data
from dfshield.runs.inputs.reference_images import reference_set
from dfshield.runs.inputs.teacher_checks import (
    checks_of,
    require_last_batch,
    require_mini_batches,
    try_check,
)
from dfshield.runs.inputs.teacher_remarks import IMAGES, alarm_of, format_accuracy, remark_of_unseen
from dfshield.runs.inputs.teacher_source import (
    built_teacher,
    imported_teacher,
    saved_location,
    weights_path,
)
from dfshield.runs.inputs.training_overlap import with_overlap
from dfshield.runs.layout import RunLayout
from dfshield.runs.watching.event_log import EventLog
from dfshield.runs.watching.events import SilentObserver
from dfshield.storage import SurrogateDataset

Found = tuple[list[Check], Classifier | None, bool]
"""Checks of where a teacher comes from, the teacher, and whether its weights are those of a run."""


class _Listener(SilentObserver):
    """Keeps what a run would say."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        """Keep one line."""
        self.said.append(text)


def examine_teacher(config: Config) -> list[Check]:
    """Look at the teacher of a run as its first stage will, and at what it is measured on.

    Nothing is written and nothing is trained: of a teacher that is yet to be trained, the
    architecture is looked at.
    """
    checks, teacher, finished = _teacher(config)
    if teacher is None:
        return checks
    checks += _hardening(config, teacher)
    if config.method is None:
        checks.append(_last_batch(config, teacher))
    if finished:
        checks += _statistics(teacher)
    return [*checks, *_measuring(config, teacher, finished=finished)]


def _tried(name: str, action: Callable[[], str]) -> Check:
    """Return a check that has failed if the action does, and else found what it returns."""
    try:
        return check(name, HERE, action())
    except DfshieldError as error:
        return check(name, HERE, "", problem=str(error))


def _teacher(config: Config) -> Found:
    listener, layout = _Listener(), RunLayout.of(config)
    context = RunContext(config, layout, InProcessExecutor(), listener, EventLog(layout.root))
    try:
        if is_finished(context):
            done = f"finished, in {layout.teacher}"
            return [check("teacher", HERE, done)], load_classifier(layout.teacher), True
    except DfshieldError as error:
        return [check("teacher", HERE, "", problem=str(error))], None, False
    again = [check("teacher", HERE, "", warning=text) for text in listener.said]
    train = config.teacher.train
    found, teacher, finished = _brought(config) if train is None else _to_train(config, train)
    return [*again, *found], teacher, finished


def _to_train(config: Config, training: TeacherTraining) -> Found:
    job, source = TeacherJob(config, training), config.teacher.source
    try:
        teacher, train, _ = job.materials()
    except DfshieldError as error:
        return [check("teacher source", HERE, "", problem=str(error))], None, False
    seen = f"{source}: to be trained by dfshield on {len(train):,} images of {train.name}"
    size, key = training.batch_size, "teacher.train.batch_size"

    def last_batch() -> str:
        require_last_batch(teacher, len(train), size, key=key)
        return f"{len(train):,} images in mini-batches of {size}"

    return (
        [
            check("teacher source", HERE, f"{seen}; until then its architecture is looked at"),
            _tried("teacher's last mini-batch", last_batch),
        ],
        teacher,
        False,
    )


def _brought(config: Config) -> Found:
    """Build the teacher without its weights, then with them, to tell which of both is wrong."""
    weights, source = weights_path(config), config.teacher.source
    alone = weights is None or saved_location(config) is not None
    try:
        made = imported_teacher(config) if alone else built_teacher(config, weights=None)
    except DfshieldError as error:
        found = [check("teacher source", HERE, "", problem=str(error))]
        if not alone and weights is not None and weights != "download":
            found.append(_tried("teacher weights", lambda: f"{read_weights(weights).path}: read"))
        return found, None, False
    shape = " x ".join(map(str, made.input_shape))
    found = [check("teacher source", HERE, f"{source}: {made.num_classes} classes, images {shape}")]
    if alone:
        return [*found, check("teacher weights", HERE, f"those that {source} brings")], made, True
    if weights == "download":
        later = "pytorchcv will download them: not looked at here"
        return [*found, check("teacher weights", HERE, later)], made, False
    try:
        teacher = imported_teacher(config)
    except DfshieldError as error:
        return [*found, check("teacher weights", HERE, "", problem=str(error))], made, False
    return [*found, check("teacher weights", HERE, f"{weights}: they fit")], teacher, True


def _hardening(config: Config, teacher: Classifier) -> Iterator[Check]:
    """Try everything that hardening does, once; what one cause spoils is told once."""
    told_of = set[str]()
    for name, looked_at in checks_of(config).items():
        try:
            try_check(name, looked_at, teacher)
        except InputError as error:
            if str(error) not in told_of:
                yield check(name, HERE, "", problem=str(error))
            told_of.add(str(error))
        else:
            layers = len(batchnorm_layers(teacher))
            yield check(name, HERE, f"{layers} of them" if name == "BatchNorm layers" else "works")
    labels = torch.zeros(len(probe_images(teacher.input_shape)), dtype=torch.long)
    result = evaluate(teacher, (probe_images(teacher.input_shape), labels), None)
    note = next((note for note in result.notes if "randomised" in note), "")
    yield check("same answer twice", HERE, "yes", warning=note if result.randomised else "")


def _last_batch(config: Config, teacher: Classifier) -> Check:
    training = config.training

    def tried() -> str:
        num_images = config.synthesis.num_images
        if training.images is not None:
            num_images = len(reference_set(training.images, teacher))
        elif training.data is not None:
            data = SurrogateDataset.open(expand(training.data, key="training.data"))
            num_images = images_of_training(config, data)
        require_mini_batches(config, teacher)
        return f"{num_images:,} images in mini-batches of {training.batch_size}"

    return _tried("last mini-batch", tried)


def _statistics(teacher: Classifier) -> Iterator[Check]:
    yield check(
        "BatchNorm statistics",
        HERE,
        "of images",
        warning=remark_of_unseen(teacher),
    )
    mean, std = ([round(float(v), 6) for v in b.flatten()] for b in (teacher.mean, teacher.std))
    guessed = teacher.architecture.source.startswith("python:")
    yield check(
        "normalisation",
        HERE,
        teacher.assumption or f"mean {mean}, std {std}",
        warning=teacher.assumption if guessed else "",
    )


def _measuring(config: Config, teacher: Classifier, *, finished: bool) -> Iterator[Check]:
    """Look at the test images, where there are any, and at what the teacher makes of some."""
    try:
        require_evaluation_data(config)
    except InputError:
        return  # which `examine_run` tells
    name = "test images and classes"
    try:
        images = real_images(config, teacher, num_images=config.evaluation.num_images)
        few = real_images(config, teacher, num_images=IMAGES).images
    except DfshieldError as error:
        yield check(name, HERE, "", problem=str(error))
        return
    fit = f"{len(images.images):,} of {images.info.name}, {teacher.num_classes} classes"
    yield check(name, HERE, fit, warning="; ".join(images.info.remarks))
    if finished:
        result = evaluate(teacher, few, None)
        yield check("clean accuracy", HERE, format_accuracy(result), warning=alarm_of(result))
    if config.teacher.train is not None:
        yield _overlap(config, images)


def _overlap(config: Config, images: RealImages) -> Check:
    name = "training images"
    try:
        info = with_overlap(config, images)
    except InputError as error:
        return check(name, HERE, "", warning=f"they cannot be compared: {error}")
    remarks = [remark for remark in info.remarks if remark not in images.info.remarks]
    none = "none of the test images is among them"
    return check(name, HERE, none, warning="; ".join(remarks))
