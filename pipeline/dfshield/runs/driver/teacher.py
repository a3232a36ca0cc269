"""Bringing or making the classifier to harden, and putting it into the run folder."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dfshield.classifiers import CONFIG_FILE, WEIGHTS_FILE, Classifier
from dfshield.config import Config, TeacherTraining
from dfshield.datasets import ImageSet, numbers_of
from dfshield.errors import ChangedCodeError, InputError
from dfshield.runs.context import RunContext
from dfshield.runs.execution.protocol import Worker
from dfshield.runs.inputs.classifier_folder import load_classifier, save_classifier
from dfshield.runs.inputs.real_data import fitted, located, read_images
from dfshield.runs.inputs.teacher_checks import require_last_batch, require_usable
from dfshield.runs.inputs.teacher_remarks import look_at
from dfshield.runs.inputs.teacher_source import built_teacher, imported_teacher, teacher_identity
from dfshield.runs.inputs.training_overlap import warn_of_overlap
from dfshield.runs.records import Record, claim, damage, finish, nothing_yet, read_record
from dfshield.storage import Folder
from dfshield.training import SupervisedEpoch, train_supervised

FILES = (WEIGHTS_FILE, CONFIG_FILE)
"""Of a classifier that a stage is to leave in its folder."""


def finished_teacher(context: RunContext) -> Record:
    """Return the record of the run's teacher; nothing but the record is read.

    Raises:
        InputError: if the stage has not been done, or was done with other settings.
    """
    folder = context.layout.teacher
    record = read_record(folder)
    if record is None or not record["done"]:
        raise nothing_yet(folder, "teacher")
    return claim(folder, teacher_identity(context.config, record))


def teacher_fingerprint(context: RunContext) -> str:
    """Return the fingerprint of the run's teacher; see `finished_teacher`."""
    return str(finished_teacher(context)["summary"]["fingerprint"])


def load_teacher(context: RunContext) -> Classifier:
    """Return the run's teacher.

    Raises:
        InputError: as `finished_teacher`, or if its files are damaged.
    """
    finished_teacher(context)
    # The configuration has named this classifier's source.
    return load_classifier(context.layout.teacher)


def make_teacher(context: RunContext) -> None:
    """Make sure that the run folder holds the teacher: imported from weights, or trained here."""
    if is_finished(context):
        return
    config, folder = context.config, context.layout.teacher
    identity = teacher_identity(config, read_record(folder))
    if config.teacher.train is None:
        classifier = imported_teacher(config)
        require_usable(config, classifier)
        metrics: dict[str, Any] = {}
    else:
        classifier, metrics = _trained(context, config.teacher.train)
    look_at(context, classifier)
    record = claim(folder, identity)
    save_classifier(classifier, folder)
    finish(folder, record, *FILES, fingerprint=classifier.fingerprint(), **metrics)
    context.log.emit("teacher", source=config.teacher.source, **metrics)


def is_finished(context: RunContext) -> bool:
    """Return whether the run folder holds the teacher; nothing is written.

    Its record is read, and names and sizes of its files are looked at. A ``python:`` factory is
    asked once more for its network, which needs the weights: no file tells what code does now.

    Raises:
        InputError: if it was made with other settings.
        ChangedCodeError: if its factory builds another one now.
    """
    folder = context.layout.teacher
    record = read_record(folder)
    if record is None:
        return False
    claim(folder, teacher_identity(context.config, record))
    if not record["done"] or not whole(context, folder, record, FILES):
        return False
    if not record["identity"]["teacher"]["source"].startswith("python:"):
        return True
    if not _loads(context, folder):
        return False
    _require_same_weights(context.config, folder)
    return True


def whole(context: RunContext, folder: Folder, record: Record, files: Iterable[str]) -> bool:
    """Return whether a finished stage has its files; say so if it has to be done again."""
    found = damage(folder, record, files)
    for name, problem in found.items():
        context.observer.say(f"{folder}/{name}: {problem}; it is made again")
    return not found


def _loads(context: RunContext, folder: Folder) -> bool:
    """Return whether a finished classifier still loads; say so if it has to be made again.

    Raises:
        ChangedCodeError: if the code of its factory has changed since.
    """
    try:
        load_classifier(folder)
    except ChangedCodeError:
        raise  # made again it would be another one
    except InputError as error:
        context.observer.say(f"{error}; it is made again")
        return False
    return True


def _require_same_weights(config: Config, folder: Folder) -> None:
    """Check that a factory which brings its own weights still brings those of the finished teacher.

    Raises:
        ChangedCodeError: if it does not.
    """
    teacher = config.teacher
    if teacher.weights is None and teacher.train is None and not teacher.is_saved:
        brought = imported_teacher(config)
        if brought.digest() != load_classifier(folder).digest():
            raise ChangedCodeError(
                f"{folder}: {teacher.source} now brings other weights than this teacher's; "
                "go on under another name=, or delete that folder to start it afresh"
            )


def _fresh_normalisation(config: Config) -> dict[str, tuple[float]]:
    """Return what a factory's network is trained with here, unless the configuration says it."""
    teacher = config.teacher
    if not teacher.source.startswith("python:") or teacher.mean or teacher.std:
        return {}
    return {"mean": (0.5,), "std": (0.5,)}


@dataclass(frozen=True)
class TeacherJob:
    """Trains the teacher on real images."""

    config: Config
    training: TeacherTraining

    def materials(self) -> tuple[Classifier, ImageSet, ImageSet]:
        """Return the untrained teacher, the training and the validation images."""
        options = self.training
        key = "teacher.train.data"
        train, validation = (
            read_images(options.data, split=split, key=key) for split in ("train", "val")
        )
        known = {**_classes_of(self.config, train), **_fresh_normalisation(self.config)}
        teacher = built_teacher(self.config, weights=None, **known)
        return teacher, fitted(train, teacher, key=key), fitted(validation, teacher, key=key)

    def run(self, worker: Worker) -> tuple[dict[str, Tensor], SupervisedEpoch, int]:
        """Return the teacher's state, its metrics and the number of validation images."""
        options = self.training
        teacher, train, validation = self.materials()
        best = train_supervised(
            teacher.to(worker.device),
            train,
            validation,
            epochs=options.epochs,
            batch_size=options.batch_size,
            optimizer=options.optimizer,
            learning_rate=options.learning_rate,
            weight_decay=options.weight_decay,
            milestones=options.milestones,
            select=options.select,
            seed=self.config.all_seeds[0],
            on_epoch=lambda _: worker.monitor.advance(1.0),
        )
        return teacher.cpu().state_dict(), best, len(validation)


def _classes_of(config: Config, train: ImageSet) -> dict[str, Any]:
    """Return number and names of the classes, as far as the configuration leaves them open."""
    teacher = config.teacher
    if teacher.class_names is not None:
        return {}
    if teacher.num_classes in (None, train.num_classes):
        return {"num_classes": train.num_classes, "class_names": train.class_names}
    counted = not train.named or numbers_of(train.class_names) is not None
    if not counted or teacher.num_classes < train.num_classes:
        # Which classes have no image is for the names to say.
        raise InputError(
            f"teacher.num_classes: {teacher.num_classes}, but {train.name} has "
            f"{train.num_classes} classes; teacher.class_names can name more"
        )
    return {}


def _tell_of_data(context: RunContext, teacher: Classifier, train: ImageSet) -> None:
    """Tell what is strange about the training images but no mistake for certain."""
    for remark in train.remarks:
        context.observer.say(f"Note: {remark}")
    present = set(train.labels.tolist())
    absent = [name for label, name in enumerate(teacher.class_names) if label not in present]
    if absent:
        context.observer.say(
            f"No training image shows class {', '.join(absent[:6])}"
            f"{' ...' if len(absent) > 6 else ''}; labels count from 0"
        )
    warn_of_overlap(context.config, teacher, context.observer)


def _trained(context: RunContext, training: TeacherTraining) -> tuple[Classifier, dict[str, Any]]:
    observer = context.observer
    data = located(training.data, key="teacher.train.data")
    job = TeacherJob(context.config, training.model_copy(update={"data": data}))
    teacher, train, _ = job.materials()  # what is wrong shows before anything is written
    require_usable(context.config, teacher)
    require_last_batch(teacher, len(train), training.batch_size, key="teacher.train.batch_size")
    _tell_of_data(context, teacher, train)
    # Shows, before the work and not after it, whether the run folder can be written.
    context.log.emit("teacher_training_started", epochs=training.epochs)
    engine = context.executor.engine()
    observer.begin("Training the teacher", total=training.epochs, done=0, unit="epochs")
    state, best, num_validation = context.executor.run(job, engine=engine, monitor=context.monitor)
    teacher.load_state_dict(state)
    observer.end()
    observer.say(
        f"Teacher: validation accuracy {best.accuracy:.1%}, AUC {best.auc:.4f} "
        f"on {num_validation} images (epoch {best.epoch + 1})"
    )
    return teacher, {
        "validation_accuracy": best.accuracy,
        "validation_auc": best.auc,
        "validation_images": num_validation,
    }
