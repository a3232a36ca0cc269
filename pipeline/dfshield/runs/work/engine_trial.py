"""The engine trial of some work: what a worker does, before the work is planned."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch

from dfshield.classifiers import Classifier
from dfshield.config import Config, EngineConfig, SynthesisConfig, TrainingConfig
from dfshield.engine.acceleration import Acceleration
from dfshield.engine.numerics import accelerator_of
from dfshield.engine.peak_memory import memory_share
from dfshield.engine.trial import LONG, MOST_STEPS, Rung, Trial, run_trial
from dfshield.runs.execution.engine import Engine
from dfshield.runs.execution.engine_choice import multiplies_bfloat16
from dfshield.runs.execution.protocol import Worker
from dfshield.runs.inputs.classifier_folder import load_classifier
from dfshield.runs.inputs.synthesizer import synthesizer_of
from dfshield.runs.work.attack_passes import attack_peak, most_together, number_that_fits
from dfshield.runs.work.student_trainer import MeasurableTraining
from dfshield.runs.work.synthesis_passes import batches_that_fit
from dfshield.storage import Folder, SurrogateTensors
from dfshield.training import AdversarialTrainer
from dfshield.training.trial import training_ways

MOST_UPDATES = 10
"""Updates after which ways of training are compared: such of CPUs take many seconds each."""


@dataclass(frozen=True)
class SynthesisTrialJob:
    """Tries the faster ways of a synthesis.

    Attributes:
        teacher: the folder of the classifier.
        synthesis: how images are made.
        seed: of the run.
        num_workers: how many workers share the work.
        part_size: images of a part.
    """

    teacher: str
    synthesis: SynthesisConfig
    seed: int
    num_workers: int
    part_size: int

    def run(self, worker: Worker) -> Trial | None:
        """Return what `synthesis_trial` does."""
        teacher = load_classifier(Folder.at(self.teacher), device=worker.device)
        return synthesis_trial(
            teacher,
            self.synthesis,
            seed=self.seed,
            num_workers=self.num_workers,
            part_size=self.part_size,
            long=LONG,
            say=worker.monitor.say,
        )


def synthesis_trial(
    teacher: Classifier,
    synthesis: SynthesisConfig,
    *,
    seed: int,
    long: float,
    part_size: int,
    num_workers: int = 1,
    say: Callable[[str], object] = lambda _: None,
) -> Trial | None:
    """Return what was found of the faster ways to make images; None if there are none.

    Args:
        teacher: on the device of choice.
        synthesis: how images are made.
        seed: of the run.
        long: seconds of plain work, of a worker, from which they are tried.
        part_size: images of a part, which no pass reaches beyond.
        num_workers: how many workers share the work.
        say: called with a line before one is tried.
    """
    options, size, device = synthesis.engine, synthesis.batch_size, teacher.mean.device
    synthesizer, own = synthesizer_of(synthesis), options.batches_per_pass or 1
    if not synthesizer.accelerated:  # nor, maybe, fitted yet
        return None
    bound = synthesizer.bind(teacher)
    together = own
    if options.batches_per_pass is None:
        per_part = min(part_size, synthesis.num_images) // size
        memory = memory_share(device)
        together = batches_that_fit(bound, seed=seed, size=size, per_part=per_part, memory=memory)
    more = together > own
    ways = bound.trial_ways(
        seed=seed, num_batches=together, size=size, iterations=2 * MOST_STEPS, alone=more
    )
    if ways is None:
        return None
    passes = (synthesis.num_images + synthesis.num_holdout) / (size * together)
    tried = [*([Acceleration()] if more else []), *accelerations(options, device)]
    number = together if more else None
    return run_trial(
        ways,
        [Rung.of(faster, ways.faster, together=number) for faster in tried],
        iterations=bound.iterations * passes / num_workers,
        memory=memory_share(device),
        long=long,
        say=say,
    )


@dataclass(frozen=True, eq=False)
class TrainingTrialJob:
    """Tries the faster ways of a training.

    Attributes:
        teacher: the folder of the classifier.
        config: of the run.
        engine: the plain one.
        images: `num_images_tried` of those that are trained on, on the CPU.
        seed: of the run.
        num_images: how many are trained on.
        num_workers: how many workers there are for it.
    """

    teacher: str
    config: Config
    engine: Engine
    images: SurrogateTensors
    seed: int
    num_images: int
    num_workers: int

    def run(self, worker: Worker) -> Trial:
        """Return what `training_trial` does."""
        return training_trial(
            load_classifier(Folder.at(self.teacher), device=worker.device),
            self.images,
            self.config,
            self.engine,
            seed=self.seed,
            num_images=self.num_images,
            num_workers=self.num_workers,
            long=LONG,
            say=worker.monitor.say,
        )


def num_images_tried(training: TrainingConfig, plain: Engine) -> int:
    """Return how many images the trial of a training takes: those of an iteration.

    It is an update of two mini-batches, since GradRefine's agreement takes two, or of as many as
    may be attacked together.
    """
    batches = min(training.gradrefine.num_batches, max(2, most_together(training, plain)))
    return batches * training.batch_size


def training_trial(
    teacher: Classifier,
    images: SurrogateTensors,
    config: Config,
    plain: Engine,
    *,
    seed: int,
    num_images: int,
    long: float,
    num_workers: int = 1,
    say: Callable[[str], object] = lambda _: None,
) -> Trial:
    """Return what was found of the faster ways to train a student.

    Args:
        teacher: on the device of choice.
        images: of an iteration; see `num_images_tried`.
        config: of the run.
        plain: the engine without acceleration.
        seed: of the run.
        num_images: how many are trained on.
        long: seconds of plain work, of a worker, from which they are tried.
        num_workers: how many workers there are; no more than there are passes in a group have
            something to do.
        say: called with a line before one is tried.
    """
    training, device = config.training, teacher.mean.device
    moved = (images.images, images.labels, images.teacher_logits)
    images = SurrogateTensors(*(tensor.to(device) for tensor in moved))
    work = MeasurableTraining.of(config, teacher, images, seed=seed)
    group, own = training.gradrefine.num_batches, plain.batches_per_pass
    workers = min(num_workers, -(-group // own))

    def make(found: Acceleration, together: int = own) -> AdversarialTrainer:
        engine = replace(plain, precision=found.precision, compiled=found.compiled)
        return work.trainer(replace(engine, batches_per_pass=together, graphed=found.graphed))

    together = _together(make(Acceleration()), work, plain, most=group // workers)
    batch = work.first_pass(together)
    ways, tried = training_ways(make, batch), accelerations(training.engine, device)
    rungs = [Rung.of(faster, ways.faster) for faster in tried]
    if together > own:
        shared = training_ways(partial(make, together=together), batch)
        tried = [Acceleration(), *tried]
        rungs = [Rung.of(faster, shared.faster, together=together) for faster in tried]
    return run_trial(
        ways,
        rungs,
        iterations=training.epochs * num_images / (len(images) * workers),
        most_steps=MOST_UPDATES,
        memory=memory_share(device),
        long=long,
        say=say,
    )


def _together(
    trainer: AdversarialTrainer, work: MeasurableTraining, plain: Engine, *, most: int
) -> int:
    """Return how many mini-batches are to be attacked together: as many as memory takes.

    Args:
        trainer: plain.
        work: the training.
        plain: the engine without acceleration.
        most: where more would leave a worker without any.
    """
    training, own = work.config.training, plain.batches_per_pass
    most = min(most, most_together(training, plain), len(work.images) // training.batch_size)
    if most <= own:
        return own
    peak_of = attack_peak(trainer, work.first_pass(most))
    return number_that_fits(peak_of, memory=memory_share(trainer.passes.device), most=most)


def accelerations(options: EngineConfig, device: torch.device) -> list[Acceleration]:
    """Return what is worth a trial on a device.

    It is the plain kernels in a CUDA graph, compiled ones, and those in bfloat16 where the device
    multiplies in it.

    Args:
        options: may ask for float32.
        device: of the worker.
    """
    gpu = accelerator_of(device)
    rounds = multiplies_bfloat16() if gpu is None else gpu.has_tensor_cores
    found = [Acceleration("float32", compiled=True)]
    if gpu is not None:
        found.insert(0, Acceleration(graphed=True))
    if rounds and options.precision == "auto":
        found.append(Acceleration("bfloat16", compiled=True))
    return found
