"""What a stage would do on this machine, and how long it would take: measured, nothing written."""

import copy
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from statistics import median
from typing import Any

import torch

from dfshield.classifiers import Classifier
from dfshield.config import Config, SynthesisConfig
from dfshield.engine.trial import LONG, Trial
from dfshield.runs.driver.engine_trial import TriedEngine
from dfshield.runs.driver.synthesis_plan import synthesis_engine, tried_synthesis_engine
from dfshield.runs.driver.train import training_engine
from dfshield.runs.execution.engine import Engine
from dfshield.runs.execution.in_process import InProcessExecutor
from dfshield.runs.inputs.classifier_folder import load_classifier
from dfshield.runs.inputs.reference_images import reference_set
from dfshield.runs.inputs.synthesizer import synthesizer_of
from dfshield.runs.inputs.teacher_source import imported_teacher
from dfshield.runs.layout import RunLayout
from dfshield.runs.records import nothing_yet, read_record
from dfshield.runs.work.engine_trial import synthesis_trial
from dfshield.runs.work.student_trainer import make_trainer
from dfshield.storage import MANIFEST, SurrogateTensors, read_manifest
from dfshield.synthesis import BatchState, FittedSynthesizer, Synthesizer

MEASURED = 5


@dataclass(frozen=True)
class StagePlan:
    """How a stage would be computed by one worker on this machine.

    Attributes:
        stage: ``synthesize`` or ``train``.
        engine: device, precision, compiled or not, batches per pass.
        unit: what the stage goes on in: ``part`` or ``update``.
        units: how many there are in all.
        seconds_to_begin: what building and, if any, compiling took.
        seconds_per_unit: expected for a whole one, from a few iterations measured now.
        seconds: expected in all.
        engine_trial: what `Trial.to_json` returns of the trial that the engine was chosen by, of
            work that has begun or of now; None without one.
    """

    stage: str
    engine: Engine
    unit: str
    units: int
    seconds_to_begin: float
    seconds_per_unit: float
    seconds: float
    engine_trial: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as a value that ``json.dumps`` takes."""
        return asdict(self)


def plan_stage(
    config: Config, stage: str, *, say: Callable[[str], object] = lambda _: None
) -> StagePlan:
    """Plan ``synthesize`` or ``train`` and measure a few iterations of it.

    Args:
        config: of the run.
        stage: which.
        say: called with a line for the user where it takes minutes: an engine trial.

    Raises:
        InputError: if there is no teacher to measure with.
    """
    teacher = _teacher(config)
    here = InProcessExecutor().engine()
    if stage == "synthesize":
        return _synthesis(config, teacher, here, say)
    return _training(config, teacher, here)


def try_engines(config: Config, *, say: Callable[[str], object] = lambda _: None) -> Trial | None:
    """Hold the engine trial of a run's synthesis on this machine, however short the work is.

    Args:
        config: of the run.
        say: called with a line before a way is tried.

    Returns:
        What was found; None if the synthesizer can be computed in one way only.

    Raises:
        InputError: if there is no teacher to measure with.
    """
    engine = InProcessExecutor().engine()
    engine.bind()
    teacher = _teacher(config).to(torch.device(engine.device))
    return synthesis_trial(teacher, config.synthesis, seed=config.all_seeds[0], long=0.0, say=say)


def _teacher(config: Config) -> Classifier:
    folder = RunLayout.of(config).teacher
    record = read_record(folder)
    if record is not None and record["done"]:
        return load_classifier(folder)
    if config.teacher.train is not None:
        raise nothing_yet(folder, "teacher")
    return imported_teacher(config)


def _synthesis(
    config: Config, teacher: Classifier, here: Engine, say: Callable[[str], object]
) -> StagePlan:
    options, seed = config.synthesis, config.all_seeds[0]
    tried = _synthesis_engine(config, teacher, here, say)
    engine = tried.engine
    engine.bind()
    teacher = teacher.to(torch.device(engine.device))
    synthesizer, fitting = synthesizer_of(options), 0.0
    if isinstance(synthesizer, FittedSynthesizer):
        fit = synthesizer.fit(teacher, seed=seed, acceleration=engine.acceleration)
        steps = min(MEASURED, fit.steps)
        fitting = fit.steps * median(_seconds(fit.step, engine) for _ in range(steps))
        synthesizer = synthesizer.with_weights(fit.weights())
    to_begin, per_pass = _measured_pass(synthesizer, teacher, engine, options, seed=seed)
    to_begin += fitting
    per_image = per_pass / (engine.batches_per_pass * options.batch_size)
    part_size, sizes = config.storage.part_size, (options.num_images, options.num_holdout)
    return StagePlan(
        stage="synthesize",
        engine=engine,
        unit="part",
        units=sum(-(-size // part_size) for size in sizes),
        seconds_to_begin=to_begin,
        seconds_per_unit=per_image * min(part_size, options.num_images),
        seconds=to_begin + per_image * sum(sizes),
        engine_trial=tried.trial,
    )


def _synthesis_engine(
    config: Config, teacher: Classifier, here: Engine, say: Callable[[str], object]
) -> TriedEngine:
    """Return the engine of images that have begun, else by a trial if one is due."""
    seed = config.all_seeds[0]
    folder = RunLayout.of(config).synthetic(seed)
    if folder.exists(MANIFEST):
        begun = read_manifest(folder)
        engine = synthesis_engine(config.synthesis, teacher, here, bound=begun.engine)
        return TriedEngine(engine, begun.engine_trial)

    def try_ways(plain: Engine) -> Trial | None:
        plain.bind()
        moved = teacher.to(torch.device(plain.device))
        return synthesis_trial(moved, config.synthesis, seed=seed, long=LONG, say=say)

    return tried_synthesis_engine(config.synthesis, teacher, here, try_ways=try_ways, say=say)


class _MeasuredError(Exception):
    """Ends a pass of which enough iterations have been measured."""


def _measured_pass(
    synthesizer: Synthesizer,
    teacher: Classifier,
    engine: Engine,
    options: SynthesisConfig,
    *,
    seed: int,
) -> tuple[float, float]:
    """Return the seconds until the first iteration begins, and those of a whole pass.

    Of a pass with iterations a few are measured.
    """
    begun = time.perf_counter()
    bound = synthesizer.bind(
        teacher,
        acceleration=engine.acceleration,
        full_pass=(engine.batches_per_pass, options.batch_size),
    )
    one_pass = partial(
        bound.synthesize_batches,
        seed=seed,
        batches=range(engine.batches_per_pass),
        size=options.batch_size,
    )
    ticks: list[float] = []

    def tick(done: int, _: Callable[[], BatchState]) -> None:
        _wait_for(engine)
        ticks.append(time.perf_counter())
        if done == MEASURED + 2:
            raise _MeasuredError

    with suppress(_MeasuredError):
        one_pass(on_iteration=tick)
    if len(ticks) < 3:
        first = time.perf_counter()
        whole = _seconds(one_pass, engine)
        return first - begun - whole, whole
    iteration = median(b - a for a, b in pairwise(ticks[1:]))
    return ticks[0] - begun - iteration, iteration * bound.iterations


def _seconds(work: Callable[[], object], engine: Engine) -> float:
    start = time.perf_counter()
    work()
    _wait_for(engine)
    return time.perf_counter() - start


def _wait_for(engine: Engine) -> None:
    if engine.device == "cuda":
        torch.cuda.synchronize()


def _training(config: Config, teacher: Classifier, here: Engine) -> StagePlan:
    training = config.training
    num_images = config.synthesis.num_images
    if training.images is not None:
        num_images = len(reference_set(training.images, teacher))
    engine = training_engine(training, teacher, here, num_images=num_images)
    engine.bind()
    begun = time.perf_counter()
    size = training.batch_size * engine.batches_per_pass
    images = torch.rand(size, *teacher.input_shape, generator=torch.Generator().manual_seed(0))
    device = torch.device(engine.device)
    teacher, images = teacher.to(device), images.to(device)
    with torch.no_grad():
        logits = teacher(images)
    one_pass = training.gradrefine.model_copy(update={"num_batches": engine.batches_per_pass})
    endless = training.model_copy(update={"gradrefine": one_pass, "epochs": 1000})
    trainer = make_trainer(
        config.model_copy(update={"training": endless}),
        copy.deepcopy(teacher).requires_grad_(True),
        teacher,
        SurrogateTensors(images, logits.argmax(dim=1), logits),
        seed=config.all_seeds[0],
        engine=engine,
    )
    trainer.step()
    first = time.perf_counter()
    taken = []
    for _ in range(2):
        start = time.perf_counter()
        trainer.step()
        taken.append(time.perf_counter() - start)
    batch = min(taken) / engine.batches_per_pass
    batches = -(-num_images // training.batch_size)
    group = min(training.gradrefine.num_batches, batches)
    return StagePlan(
        stage="train",
        engine=engine,
        unit="update",
        units=training.epochs * -(-batches // group),
        seconds_to_begin=first - begun - batch,
        seconds_per_unit=batch * group,
        seconds=first - begun - batch + batch * batches * training.epochs,
    )
