"""Training the student on the surrogate images, in updates that can be resumed."""

from collections.abc import Mapping
from typing import Any

from dfshield.classifiers import Classifier
from dfshield.config import Config, TrainingConfig, check_group, check_last_batch, expand
from dfshield.epsilon import parse_epsilon
from dfshield.errors import InputError
from dfshield.runs.context import RunContext
from dfshield.runs.driver.synthesis_plan import synthesis_identity
from dfshield.runs.driver.teacher import FILES as CLASSIFIER_FILES
from dfshield.runs.driver.teacher import load_teacher, teacher_fingerprint, whole
from dfshield.runs.execution.engine import Engine
from dfshield.runs.execution.engine_choice import (
    multiply_adds,
    planned_engine,
    resumed_engine,
)
from dfshield.runs.identity import identity_of, keys_of
from dfshield.runs.inputs.classifier_folder import load_classifier
from dfshield.runs.names import HISTORY, STAGE_FILE
from dfshield.runs.records import claim, finish, nothing_yet, read_record
from dfshield.runs.work.training import StudentJob, training_checkpoint
from dfshield.storage import Folder, SurrogateDataset
from dfshield.training import AVERAGES, OBJECTIVES, SCHEDULES

DEPENDS_ON = (
    "epochs",
    "batch_size",
    "learning_rate",
    "momentum",
    "nesterov",
    "weight_decay",
    "schedule",
    "objective",
    "gradrefine",
    "inner",
    "average",
    "select",
)
"""The keys of the section ``training`` that decide what a student comes to."""
FILES = (*CLASSIFIER_FILES, HISTORY)


def make_student(context: RunContext, seed: int) -> None:
    """Train the student, going on from its last checkpoint.

    Of a student that is done, names and sizes of the files are looked at, and nothing is opened but
    the records of the run.

    Args:
        context: the run; its ``replan`` lets a training that was begun under another engine go on
            under this machine's.
        seed: which of its seeds.

    Raises:
        InputError: if there is no complete surrogate data set, it was made from another teacher, or
            the student in the run folder has another identity or engine.
    """
    if student_is_done(context, seed):
        trained_student(context, seed)  # refuses other settings
        return
    teacher = load_teacher(context)
    dataset = _dataset(context, teacher.fingerprint(), seed)
    num_images = images_of_training(context.config, dataset)
    folder = context.layout.student(seed)
    surrogate = dataset.manifest.identity
    fingerprint = teacher.fingerprint()
    record = claim(folder, _identity(context.config, fingerprint, surrogate, num_images, seed))
    begun = record.get("engine") if training_checkpoint(folder).exists() else None
    engine = training_engine(
        context.config.training,
        teacher,
        context.executor.engine(),
        num_images=num_images,
        bound=begun,
    )
    if begun is not None:
        engine = resumed_engine(engine, begun, where=folder, replan=context.replan)
    record = {**record, "engine": engine.to_json()}
    folder.write_json(STAGE_FILE, record)
    folder.sweep_temporary()  # what a killed process was writing
    job = StudentJob(
        config=context.config,
        seed=seed,
        teacher=context.layout.teacher.uri,
        data=dataset.folder.uri,
        refs=context.refs.get(seed, {}),
        num_images=num_images,
        student=folder.uri,
        engine=engine,
    )
    context.executor.run_group(job, engine=engine, monitor=context.monitor)
    student = load_classifier(folder)
    finish(folder, record, *FILES, fingerprint=student.fingerprint())
    training_checkpoint(folder).delete()
    context.log.emit("training_done", seed=seed)


def training_engine(
    training: TrainingConfig,
    teacher: Classifier,
    here: Engine,
    *,
    num_images: int,
    bound: dict[str, Any] | None = None,
) -> Engine:
    """Return the engine that a student is trained with here, or was begun with."""
    # An attack step goes forward and back to the image; the mini-batch itself twice forward and
    # back to the weights, which costs another forward pass each.
    passes = 2.0 * training.inner.num_steps + 1 + 2 * 3
    work = passes * num_images * training.epochs * multiply_adds(teacher)
    return planned_engine(here, training.engine, work=work, bound=bound)


def _dataset(context: RunContext, teacher_fingerprint: str, seed: int) -> SurrogateDataset:
    elsewhere = context.config.training.data
    if elsewhere is not None:
        dataset = SurrogateDataset.open(expand(elsewhere, key="training.data"))
    else:
        folder = context.layout.synthetic(seed)
        if read_record(folder) is None:
            raise nothing_yet(folder, "synthesize")
        dataset = SurrogateDataset.open(folder)
    if dataset.manifest.teacher_fingerprint != teacher_fingerprint:
        raise InputError(f"{dataset.folder} was made from another teacher than this run's")
    missing = {part.path for part in dataset.missing()} - context.refs.get(seed, {}).keys()
    if missing:
        raise InputError(
            f"{dataset.folder} is not complete ({len(missing)} of "
            f"{len(dataset.manifest.parts)} parts are missing): run `dfshield synthesize` first"
        )
    return dataset


def images_of_training(config: Config, dataset: SurrogateDataset) -> int:
    """Return how many images of the data set a student is trained on.

    Raises:
        InputError: naming the key, if the data set has too few, or too few for the mini-batches.
    """
    planned = sum(part.num_images for part in dataset.manifest.split("data"))
    wanted = planned if config.training.data else config.synthesis.num_images
    if wanted > planned:
        raise InputError(
            f"synthesis.num_images: {wanted} wanted, {dataset.folder} holds {planned}: "
            "run `dfshield synthesize` first"
        )
    batch_size = config.training.batch_size
    try:
        check_group(config.training.gradrefine.num_batches, -(-wanted // batch_size))
        check_last_batch(batch_size, wanted)
    except ValueError as error:
        raise InputError(str(error)) from None
    return wanted


def trained_student(context: RunContext, seed: int) -> Folder:
    """Return the folder of a finished student; nothing but records is read.

    Raises:
        InputError: if there is none, or it was trained with other settings.
    """
    folder = context.layout.student(seed)
    record = read_record(folder)
    if record is None or not record["done"]:
        raise nothing_yet(folder, "train")
    claim(folder, training_identity(context, seed))
    return folder


def training_identity(context: RunContext, seed: int) -> dict[str, Any]:
    """Return everything that the student of a seed depends on.

    Raises:
        InputError: if there is no teacher, or no surrogate data set where one is named.
    """
    config, fingerprint = context.config, teacher_fingerprint(context)
    if config.training.data is None and "synthesize" not in context.layout.elsewhere:
        surrogate: Mapping[str, Any] = synthesis_identity(config, fingerprint, seed)
        num_images = config.synthesis.num_images
    else:
        dataset = _dataset(context, fingerprint, seed)
        surrogate = dataset.manifest.identity
        num_images = images_of_training(config, dataset)
    return _identity(config, fingerprint, surrogate, num_images, seed)


def _identity(
    config: Config, teacher: str, surrogate: Mapping[str, Any], num_images: int, seed: int
) -> dict[str, Any]:
    synthesis = {"num_images": num_images}
    if config.training.select == "holdout":
        synthesis["num_holdout"] = config.synthesis.num_holdout
    return identity_of(
        "training",
        algorithm={
            "objective": OBJECTIVES[config.training.objective.name].algorithm,
            "schedule": SCHEDULES[config.training.schedule.name].algorithm,
            "average": AVERAGES[config.training.average.name].algorithm,
        },
        teacher_fingerprint=teacher,
        surrogate=dict(surrogate),
        synthesis=synthesis,
        threat={"norm": config.threat.norm, "eps": parse_epsilon(config.threat.eps)},
        training=keys_of(config.training, DEPENDS_ON),
        seed=seed,
    )


def student_is_done(context: RunContext, seed: int) -> bool:
    """Return whether the student was trained, with these settings or with others, and is there."""
    folder = context.layout.student(seed)
    record = read_record(folder)
    return record is not None and record["done"] and whole(context, folder, record, FILES)
