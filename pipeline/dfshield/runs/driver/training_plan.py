"""How a student is to be trained: its engine, chosen by a trial where one is due."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from dfshield.classifiers import Classifier
from dfshield.config import TrainingConfig
from dfshield.engine.trial import Trial
from dfshield.runs.context import RunContext
from dfshield.runs.driver.engine_trial import Begun, TriedEngine, tried_engine
from dfshield.runs.driver.training_source import TrainingSource
from dfshield.runs.execution.engine import Engine
from dfshield.runs.execution.engine_choice import (
    Abilities,
    abilities_here,
    multiply_adds,
    planned_engine,
    resumed_engine,
)
from dfshield.runs.records import Record, read_record
from dfshield.runs.work.engine_trial import TrainingTrialJob, num_images_tried
from dfshield.runs.work.student_trainer import training_passes
from dfshield.runs.work.training import training_checkpoint
from dfshield.runs.work.training_images import training_reader


def planned_training(
    context: RunContext, teacher: Classifier, source: TrainingSource, seed: int, record: Record
) -> tuple[Engine, Record]:
    """Return the engine of a training that begins or goes on, and the record that tells of it.

    Args:
        context: the run.
        teacher: of the run.
        source: what is trained on.
        seed: which of its seeds.
        record: what the student's folder holds of it so far.

    Raises:
        InputError: if it was begun under an engine that this place does not have.
    """
    training, folder = context.config.training, context.layout.student(seed)
    if training_checkpoint(folder).exists() and "engine" in record:
        begun = record["engine"]
        engine = training_engine(
            training,
            teacher,
            context.executor.engine(),
            num_images=source.num_images,
            bound=begun,
        )
        engine = resumed_engine(engine, begun, where=folder, replan=context.replan)
        return engine, {**record, "engine": engine.to_json()}
    tried = _tried_by_a_worker(context, teacher, source, seed)
    record = {**record, "engine": tried.engine.to_json()}
    record.pop("engine_trial", None)
    if tried.trial is not None:
        record["engine_trial"] = tried.trial
    return tried.engine, record


def _tried_by_a_worker(
    context: RunContext, teacher: Classifier, source: TrainingSource, seed: int
) -> TriedEngine:
    config, executor = context.config, context.executor

    def try_ways(plain: Engine) -> Trial | None:
        reader = training_reader(
            config,
            teacher,
            seed=seed,
            data=source.data,
            refs=context.refs.get(seed, {}),
            get=executor.get,
        )
        wanted = min(num_images_tried(config.training, plain), source.num_images)
        job = TrainingTrialJob(
            teacher=context.layout.teacher.uri,
            config=config,
            engine=plain,
            images=reader.load("data", num_images=wanted),
            seed=seed,
            num_images=source.num_images,
            num_workers=executor.num_workers(),
        )
        return executor.run(job, engine=plain, monitor=context.monitor)

    return tried_training_engine(
        config.training,
        teacher,
        executor.engine(),
        num_images=source.num_images,
        try_ways=try_ways,
        say=context.observer.say,
        known=_begun(context, seed),
        can=executor.abilities,
    )


def _begun(context: RunContext, seed: int) -> Iterator[Begun]:
    """Give what the student of a seed, and those before it, have begun with: of equal settings."""
    seeds = context.layout.seeds
    for one in (seed, *seeds[: seeds.index(seed)]):
        record = read_record(context.layout.student(one))
        if record is not None and "engine" in record:
            yield record["engine"], record.get("engine_trial")


def training_engine(
    training: TrainingConfig,
    teacher: Classifier,
    here: Engine,
    *,
    num_images: int,
    bound: dict[str, Any] | None = None,
) -> Engine:
    """Return the engine that a student is trained with here, or was begun with."""
    work = _work(training, teacher, num_images)
    return planned_engine(here, training.engine, work=work, bound=bound)


def tried_training_engine(
    training: TrainingConfig,
    teacher: Classifier,
    here: Engine,
    *,
    num_images: int,
    try_ways: Callable[[Engine], Trial | None],
    say: Callable[[str], object],
    known: Iterable[Begun] = (),
    can: Callable[[], Abilities] = abilities_here,
) -> TriedEngine:
    """Return the engine that a new student is trained with here, by a trial where one is due.

    Args:
        training: of the run.
        teacher: of the run.
        here: the plain engine of this place.
        num_images: how many are trained on.
        try_ways: see `tried_engine`.
        say: called with a line for the user.
        known: see `tried_engine`.
        can: see `planned_engine`.
    """
    work = _work(training, teacher, num_images)
    return tried_engine(
        here,
        planned_engine(here, training.engine, work=work, can=can),
        training.engine,
        work=work,
        try_ways=try_ways,
        say=say,
        known=known,
    )


def _work(training: TrainingConfig, teacher: Classifier, num_images: int) -> float:
    """Return the multiply-adds of all forward passes that the training takes."""
    return training_passes(training) * num_images * training.epochs * multiply_adds(teacher)
