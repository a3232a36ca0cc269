"""What a stage would do, and how long it would take: measured by one worker, nothing written."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from statistics import median
from typing import Any

import torch

from dfshield.baselines import BASELINES
from dfshield.classifiers import Classifier
from dfshield.config import Config, SynthesisConfig, VariantConfig
from dfshield.errors import InputError
from dfshield.runs.driver.engine_trial import TriedEngine
from dfshield.runs.engines_here import (
    engine_of_images,
    engine_of_student,
    images_to_train_on,
    teacher_at_hand,
)
from dfshield.runs.execution.engine import Engine
from dfshield.runs.execution.in_process import InProcessExecutor
from dfshield.runs.execution.protocol import Worker
from dfshield.runs.inputs.baseline import baseline_of, begun_baseline
from dfshield.runs.inputs.synthesizer import synthesizer_of
from dfshield.runs.savings import times_fewer
from dfshield.runs.work.student_trainer import MeasurableTraining, random_images
from dfshield.synthesis import BatchState, FittedSynthesizer, Synthesizer

MEASURED = 5


@dataclass(frozen=True)
class StagePlan:
    """How a stage would be computed by one worker.

    Attributes:
        stage: ``synthesize`` or ``train``.
        engine: device, precision, compiled or not, batches per pass.
        unit: what the stage goes on in: ``part`` or ``update``, of a baseline ``step``.
        units: how many there are in all.
        seconds_to_begin: what building and, if any, compiling took.
        seconds_per_unit: expected for a whole one, from a few iterations measured now.
        seconds: expected in all.
        engine_trial: what `Trial.to_json` returns of the trial that the engine was chosen by, of
            work that has begun or of now; None without one.
        times_fewer: see `savings.times_fewer`.
    """

    stage: str
    engine: Engine
    unit: str
    units: int
    seconds_to_begin: float
    seconds_per_unit: float
    seconds: float
    engine_trial: dict[str, Any] | None = None
    times_fewer: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as a value that ``json.dumps`` takes."""
        return asdict(self)


@dataclass(frozen=True)
class PlanJob:
    """Plans a stage on a worker, whose hardware is that of the work.

    Attributes:
        config: of the run.
        stage: ``synthesize`` or ``train``.
        engine: the plain one of the workers.
        num_workers: how many of them share the work, which decides whether a trial is due.
    """

    config: Config
    stage: str
    engine: Engine
    num_workers: int

    def run(self, worker: Worker) -> StagePlan:
        """Return what `plan_stage` does."""
        return _planned(
            self.config, self.stage, self.engine, worker.monitor.say, num_workers=self.num_workers
        )


def plan_stage(
    config: Config, stage: str, *, say: Callable[[str], object] = lambda _: None
) -> StagePlan:
    """Plan ``synthesize`` or ``train`` in this process and measure a few iterations of it.

    Args:
        config: of the run.
        stage: which.
        say: called with a line for the user where it takes minutes: an engine trial.

    Raises:
        InputError: if there is no teacher to measure with.
    """
    return _planned(config, stage, InProcessExecutor().engine(), say, num_workers=1)


def _planned(
    config: Config,
    stage: str,
    here: Engine,
    say: Callable[[str], object],
    *,
    num_workers: int,
) -> StagePlan:
    teacher = teacher_at_hand(config)
    if config.method is not None:
        if stage == "synthesize":
            raise InputError(
                f"method: {config.method.name} makes its images while it trains: plan "
                "`dfshield train`"
            )
        return baseline_plan(config, teacher, here)
    if stage == "synthesize":
        tried = engine_of_images(config, teacher, here, say, num_workers=num_workers)
        plan = _synthesis(config, teacher, tried)
    else:
        tried = engine_of_student(config, teacher, here, say, num_workers=num_workers)
        plan = _training(config, teacher, tried)
    return replace(plan, times_fewer=times_fewer(config, stage))


def _synthesis(config: Config, teacher: Classifier, tried: TriedEngine) -> StagePlan:
    options, seed = config.synthesis, config.all_seeds[0]
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


def baseline_plan(config: Config, teacher: Classifier, here: Engine) -> StagePlan:
    """Plan the training of a configuration's baseline and measure a few steps of it.

    Those that train the student: warm-up steps, which cost less, count like them.

    Args:
        config: of the run; it names a baseline.
        teacher: of the run, or as it: its weights do not matter.
        here: the plain engine of this process.
    """
    here.bind()
    begun = time.perf_counter()
    teacher = teacher.to(torch.device(here.device))
    assert config.method is not None
    method = {**config.method.options, "name": config.method.name}
    if "warmup_epochs" in BASELINES.describe(baseline_of(config)):
        method["warmup_epochs"] = 0
    warm = config.model_copy(update={"method": VariantConfig.model_validate(method)})
    training = begun_baseline(warm, teacher, seed=config.all_seeds[0])
    to_begin = time.perf_counter() - begun
    steps = range(min(MEASURED, training.steps))
    step = median([_seconds(training.step, here) for _ in steps if not training.done])
    return StagePlan(
        stage="train",
        engine=here,
        unit="step",
        units=training.steps,
        seconds_to_begin=to_begin,
        seconds_per_unit=step,
        seconds=to_begin + step * training.steps,
    )


def seconds_of_pass(teacher: Classifier, engine: Engine, *, batch_size: int) -> float:
    """Return the seconds of one image's forward pass, by a few iterations of the inversion.

    Back to the image costs another pass.

    Args:
        teacher: the network; its weights do not matter.
        engine: the plain one of this process.
        batch_size: images in an iteration.
    """
    engine.bind()
    teacher = teacher.to(torch.device(engine.device))
    options = SynthesisConfig(batch_size=batch_size, num_images=batch_size, num_holdout=0)
    synthesizer = synthesizer_of(options)
    _, seconds = _measured_pass(synthesizer, teacher, engine, options, seed=0)
    return seconds / synthesizer.work(engine.batches_per_pass * batch_size)


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


def _training(config: Config, teacher: Classifier, tried: TriedEngine) -> StagePlan:
    training, seed = config.training, config.all_seeds[0]
    num_images = images_to_train_on(config, teacher)
    engine = tried.engine
    engine.bind()
    begun = time.perf_counter()
    teacher = teacher.to(torch.device(engine.device))
    images = random_images(teacher, training.batch_size * engine.batches_per_pass)
    trainer = MeasurableTraining.of(config, teacher, images, seed=seed).trainer(engine)
    trainer.step()
    first = time.perf_counter()
    batch = min(_seconds(trainer.step, engine) for _ in range(2)) / engine.batches_per_pass
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
        engine_trial=tried.trial,
    )
