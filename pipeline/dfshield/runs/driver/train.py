"""Training the student on the surrogate images, in updates that can be resumed."""

from collections.abc import Collection, Mapping
from typing import Any

from dfshield.baselines import BASELINES
from dfshield.config import Config, TrainingConfig, VariantConfig
from dfshield.epsilon import parse_epsilon
from dfshield.runs.context import RunContext
from dfshield.runs.driver.teacher import FILES as CLASSIFIER_FILES
from dfshield.runs.driver.teacher import load_teacher, teacher_fingerprint, whole
from dfshield.runs.driver.training_plan import planned_training
from dfshield.runs.driver.training_source import images_identity, training_source
from dfshield.runs.identity import identity_of, keys_of
from dfshield.runs.inputs.classifier_folder import load_classifier
from dfshield.runs.inputs.reference_images import located_reference
from dfshield.runs.names import HISTORY, STAGE_FILE
from dfshield.runs.records import Record, claim, finish, nothing_yet, read_record
from dfshield.runs.work.baseline import GENERATOR_FILES
from dfshield.runs.work.training import StudentJob, training_checkpoint
from dfshield.storage import Folder
from dfshield.training import AUGMENTATIONS, AVERAGES, MEASURES, OBJECTIVES, SCHEDULES

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
    "augmentations",
    "weight_perturbation",
    "select",
    "measure",
)
"""The keys of the section ``training`` that decide what a student comes to."""
FILES = (*CLASSIFIER_FILES, HISTORY)


def student_settings(training: TrainingConfig, *, varied: Collection[str] = ()) -> dict[str, Any]:
    """Return what a student depends on: the measure only where epochs are kept by it.

    Args:
        training: the section.
        varied: config paths that differ between the students in question.
    """
    chooses = training.select == "holdout" or "training.select" in varied
    return keys_of(training, [key for key in DEPENDS_ON if key != "measure" or chooses])


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
    context.config.training.check_augmentations(teacher.input_shape)
    source = training_source(context, teacher, seed)
    folder = context.layout.student(seed)
    record = claim(folder, _identity(context.config, teacher.fingerprint(), source.identity, seed))
    engine, record = planned_training(context, teacher, source, seed, record)
    folder.write_json(STAGE_FILE, record)
    folder.sweep_temporary()  # what a killed process was writing
    job = StudentJob(
        config=located_reference(context.config),
        seed=seed,
        teacher=context.layout.teacher.uri,
        data=source.data,
        refs=context.refs.get(seed, {}),
        num_images=source.num_images,
        student=folder.uri,
        engine=engine,
        replan=context.replan,
    )
    context.executor.run_group(job, engine=engine, monitor=context.monitor)
    student = load_classifier(folder)
    told = {} if source.reference is None else {"reference": source.reference.described()}
    finish(folder, record, *FILES, fingerprint=student.fingerprint(), **told)
    training_checkpoint(folder).delete()
    context.log.emit("training_done", seed=seed)


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
    fingerprint = teacher_fingerprint(context)
    if context.config.method is not None:
        return _baseline_identity(context.config, context.config.method, fingerprint, seed)
    images = images_identity(context, fingerprint, seed)
    return _identity(context.config, fingerprint, images, seed)


def _identity(config: Config, teacher: str, images: Mapping[str, Any], seed: int) -> dict[str, Any]:
    return identity_of(
        "training",
        algorithm={
            "objective": OBJECTIVES[config.training.objective.name].algorithm,
            "schedule": SCHEDULES[config.training.schedule.name].algorithm,
            "average": AVERAGES[config.training.average.name].algorithm,
            **_algorithm_of_measure(config.training),
            **{
                one.name: AUGMENTATIONS[one.name].algorithm for one in config.training.augmentations
            },
        },
        teacher_fingerprint=teacher,
        **images,
        threat={"norm": config.threat.norm, "eps": parse_epsilon(config.threat.eps)},
        training=student_settings(config.training),
        seed=seed,
    )


def _baseline_identity(
    config: Config, method: VariantConfig, teacher: str, seed: int
) -> dict[str, Any]:
    inner = config.training.inner
    return identity_of(
        "baseline",
        algorithm={method.name: BASELINES[method.name].algorithm},
        teacher_fingerprint=teacher,
        threat={"norm": config.threat.norm, "eps": parse_epsilon(config.threat.eps)},
        method=method.model_dump(mode="json"),
        training={"inner": keys_of(inner, ("num_steps", "step_size", "start"))},
        seed=seed,
    )


def _algorithm_of_measure(training: TrainingConfig) -> dict[str, int]:
    chooses = training.select == "holdout"
    return {"measure": MEASURES[training.measure.name].algorithm} if chooses else {}


def student_is_done(context: RunContext, seed: int) -> bool:
    """Return whether the student was trained, with these settings or with others, and is there."""
    folder = context.layout.student(seed)
    record = read_record(folder)
    return (
        record is not None and record["done"] and whole(context, folder, record, files_of(record))
    )


def files_of(record: Record) -> tuple[str, ...]:
    """Return what a finished student consists of: of a baseline its generator, too."""
    return (*FILES, *GENERATOR_FILES) if "method" in record["identity"] else FILES
