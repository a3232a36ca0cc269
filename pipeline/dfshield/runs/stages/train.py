"""Stage ``train``: surrogate images to student, in updates that can be resumed."""

from collections.abc import Mapping
from typing import Any

from dfshield.classifiers import Classifier
from dfshield.config import Config, TrainingConfig, check_group, check_last_batch, expand
from dfshield.epsilon import parse_epsilon
from dfshield.errors import InputError
from dfshield.runs.context import RunContext
from dfshield.runs.execution.engine import Engine
from dfshield.runs.execution.engine_choice import multiply_adds, planned_engine
from dfshield.runs.identity import STAGE_FILE, claim, finish, read_record, resumed_engine
from dfshield.runs.inputs.classifier_folder import load_classifier
from dfshield.runs.stages.synthesize import synthesis_identity
from dfshield.runs.stages.teacher import intact, load_teacher
from dfshield.runs.work.training import CHECKPOINT, StudentJob
from dfshield.storage import Folder, SurrogateDataset


def training_stage(context: RunContext, seed: int, *, replan: bool = False) -> None:
    """Train the student, going on from its last checkpoint.

    Args:
        context: the run.
        seed: which of its seeds.
        replan: go on under this machine's engine where the training was begun under another.

    Raises:
        InputError: if there is no complete surrogate data set, it was made from another teacher, or
            the student in the run folder has another identity or engine.
    """
    if student_is_done(context, seed):
        trained_student(context, seed)  # refuses other settings
        return
    teacher = load_teacher(context)
    dataset = _dataset(context, teacher, seed)
    num_images = images_of_training(context.config, dataset)
    folder = context.layout.student(seed)
    surrogate = dataset.manifest.identity
    record = claim(folder, _identity(context.config, teacher, surrogate, num_images, seed))
    begun = record.get("engine") if folder.exists(CHECKPOINT) else None
    engine = training_engine(
        context.config.training,
        teacher,
        context.executor.engine(),
        num_images=num_images,
        bound=begun,
    )
    if begun is not None:
        engine = resumed_engine(engine, begun, where=folder, replan=replan)
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
    finish(folder, record, fingerprint=student.fingerprint())
    folder.delete(CHECKPOINT)
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


def _dataset(context: RunContext, teacher: Classifier, seed: int) -> SurrogateDataset:
    elsewhere = context.config.training.data
    if elsewhere is not None:
        dataset = SurrogateDataset.open(expand(elsewhere, key="training.data"))
    else:
        folder = context.layout.synthetic(seed)
        if read_record(folder) is None:
            raise InputError(
                f"{folder} holds no surrogate images yet: run `dfshield synthesize` first"
            )
        dataset = SurrogateDataset.open(folder)
    if dataset.manifest.teacher_fingerprint != teacher.fingerprint():
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
    """Return the folder of a finished student.

    Raises:
        InputError: if there is none, or it was trained with other settings.
    """
    folder = context.layout.student(seed)
    record = read_record(folder)
    if record is None or not record["done"]:
        raise InputError(f"{folder} holds no student yet: run `dfshield train` first")
    teacher = load_teacher(context)
    config = context.config
    if config.training.data is None and context.layout.synthetic_at is None:
        surrogate = synthesis_identity(config, teacher, seed)
        num_images = config.synthesis.num_images
    else:
        dataset = _dataset(context, teacher, seed)
        surrogate = dataset.manifest.identity
        num_images = images_of_training(config, dataset)
    claim(folder, _identity(config, teacher, surrogate, num_images, seed))
    return folder


def _identity(
    config: Config, teacher: Classifier, surrogate: Mapping[str, Any], num_images: int, seed: int
) -> dict[str, Any]:
    training = config.training.model_dump(
        mode="json", exclude={"data", "checkpoint_every", "engine"}
    )
    identity: dict[str, Any] = {
        "teacher_fingerprint": teacher.fingerprint(),
        "surrogate": dict(surrogate),
        "synthesis": {"num_images": num_images},
        "threat": {"norm": config.threat.norm, "eps": parse_epsilon(config.threat.eps)},
        "training": training,
        "seed": seed,
    }
    if config.training.select == "holdout":
        identity["synthesis"]["num_holdout"] = config.synthesis.num_holdout
    return identity


def student_is_done(context: RunContext, seed: int) -> bool:
    """Return whether the student was trained, with these settings or with others."""
    folder = context.layout.student(seed)
    record = read_record(folder)
    return record is not None and record["done"] and intact(context, folder)
