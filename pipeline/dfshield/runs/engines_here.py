"""Which engines the stages of a run would have on this machine, by trials where they are due."""

from collections.abc import Callable
from dataclasses import replace

import torch

from dfshield.classifiers import Classifier
from dfshield.config import Config, expand
from dfshield.engine.trial import LONG, Trial
from dfshield.runs.driver.engine_trial import TriedEngine
from dfshield.runs.driver.synthesis_plan import synthesis_engine, tried_synthesis_engine
from dfshield.runs.driver.training_plan import training_engine, tried_training_engine
from dfshield.runs.execution.engine import Engine
from dfshield.runs.execution.in_process import InProcessExecutor
from dfshield.runs.inputs.classifier_folder import load_classifier
from dfshield.runs.inputs.reference_images import reference_set
from dfshield.runs.inputs.teacher_source import imported_teacher
from dfshield.runs.layout import RunLayout
from dfshield.runs.records import nothing_yet, read_record
from dfshield.runs.work.engine_trial import num_images_tried, synthesis_trial, training_trial
from dfshield.runs.work.training_images import training_reader
from dfshield.storage import MANIFEST, Folder, PartError, SurrogateTensors, read_manifest

Say = Callable[[str], object]


def teacher_at_hand(config: Config) -> Classifier:
    """Return the teacher of a run: that of its folder, else one that need not be trained.

    Raises:
        InputError: if there is none yet.
    """
    folder = RunLayout.of(config).teacher
    record = read_record(folder)
    if record is not None and record["done"]:
        return load_classifier(folder)
    if config.teacher.train is not None:
        raise nothing_yet(folder, "teacher")
    return imported_teacher(config)


def images_to_train_on(config: Config, teacher: Classifier) -> int:
    """Return how many images a student is trained on."""
    reference = config.training.images
    if reference is None:
        return config.synthesis.num_images
    return len(reference_set(reference, teacher))


def engine_of_images(
    config: Config, teacher: Classifier, here: Engine, say: Say, *, num_workers: int = 1
) -> TriedEngine:
    """Return the engine of images that have begun, else by a trial if one is due.

    Args:
        config: of the run.
        teacher: of the run.
        here: the plain engine of this process.
        say: called with a line for the user.
        num_workers: how many workers share the work.
    """
    seed = config.all_seeds[0]
    folder = RunLayout.of(config).synthetic(seed)
    if folder.exists(MANIFEST):
        begun = read_manifest(folder)
        engine = synthesis_engine(config.synthesis, teacher, here, bound=begun.engine)
        return TriedEngine(engine, begun.engine_trial)

    def try_ways(plain: Engine) -> Trial | None:
        plain.bind()
        moved = teacher.to(torch.device(plain.device))
        return _synthesis_trial(config, moved, long=LONG, num_workers=num_workers, say=say)

    return tried_synthesis_engine(config.synthesis, teacher, here, try_ways=try_ways, say=say)


def engine_of_student(
    config: Config, teacher: Classifier, here: Engine, say: Say, *, num_workers: int = 1
) -> TriedEngine:
    """Return the engine of a student that has begun, else by a trial if one is due.

    Args:
        config: of the run.
        teacher: of the run.
        here: the plain engine of this process.
        say: called with a line for the user.
        num_workers: how many workers share the work.
    """
    training, seed = config.training, config.all_seeds[0]
    num_images = images_to_train_on(config, teacher)
    record = read_record(RunLayout.of(config).student(seed)) or {}
    if "engine" in record:
        bound = record["engine"]
        engine = training_engine(training, teacher, here, num_images=num_images, bound=bound)
        return TriedEngine(engine, record.get("engine_trial"))

    def try_ways(plain: Engine) -> Trial | None:
        plain.bind()
        return _training_trial(config, teacher, plain, long=LONG, num_workers=num_workers, say=say)

    return tried_training_engine(
        training, teacher, here, num_images=num_images, try_ways=try_ways, say=say
    )


def try_engines(config: Config, *, say: Say = lambda _: None) -> dict[str, Trial | None]:
    """Hold the engine trials of a run on this machine, however short the work is.

    Args:
        config: of the run.
        say: called with a line before a way is tried.

    Returns:
        What was found, by stage: ``synthesize`` and ``train``; None where there is nothing to try.

    Raises:
        InputError: if there is no teacher to measure with.
    """
    if config.method is not None:  # which is computed in one way
        return {"train": None}
    engine = InProcessExecutor().engine()
    engine.bind()
    teacher = teacher_at_hand(config).to(torch.device(engine.device))
    together = config.training.engine.batches_per_pass or 1
    plain = replace(engine, batches_per_pass=together)
    return {
        "synthesize": _synthesis_trial(config, teacher, long=0.0, say=say),
        "train": _training_trial(config, teacher, plain, long=0.0, say=say),
    }


def _synthesis_trial(
    config: Config, teacher: Classifier, *, long: float, say: Say, num_workers: int = 1
) -> Trial | None:
    return synthesis_trial(
        teacher,
        config.synthesis,
        seed=config.all_seeds[0],
        long=long,
        part_size=config.storage.part_size,
        num_workers=num_workers,
        say=say,
    )


def _training_trial(
    config: Config,
    teacher: Classifier,
    plain: Engine,
    *,
    long: float,
    say: Say,
    num_workers: int = 1,
) -> Trial | None:
    """Hold the trial of a training; without images that it could be held on there is none."""
    num_images = images_to_train_on(config, teacher)
    images = _images_at_hand(config, teacher, plain, num_images)
    if images is None:
        say("Engine trial of the training: takes surrogate images, of which there are none yet")
        return None
    return training_trial(
        teacher.to(torch.device(plain.device)),
        images,
        config,
        plain,
        seed=config.all_seeds[0],
        num_images=num_images,
        num_workers=num_workers,
        long=long,
        say=say,
    )


def _images_at_hand(
    config: Config, teacher: Classifier, plain: Engine, num_images: int
) -> SurrogateTensors | None:
    """Return the images of a trial: the first of those that there are to train on."""
    training, seed = config.training, config.all_seeds[0]
    folder = RunLayout.of(config).synthetic(seed)
    if training.data is not None:
        folder = Folder.at(expand(training.data, key="training.data"))
    real = training.images is not None
    if not real and not folder.exists(MANIFEST):
        return None
    reader = training_reader(
        config,
        teacher,
        seed=seed,
        data=None if real else folder.uri,
        refs={},
        get=lambda ref: ref,
    )
    try:
        wanted = min(num_images_tried(training, plain), num_images)
        return reader.load("data", num_images=wanted)
    except PartError:
        return None
