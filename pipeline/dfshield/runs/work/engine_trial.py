"""The engine trial of some work: what a worker does, before the work is planned."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from dfshield.classifiers import Classifier
from dfshield.config import EngineConfig, SynthesisConfig
from dfshield.engine.acceleration import Acceleration
from dfshield.engine.numerics import accelerator_of
from dfshield.engine.peak_memory import memory_share
from dfshield.engine.trial import LONG, MOST_STEPS, Rung, Trial, run_trial
from dfshield.runs.execution.engine_choice import multiplies_bfloat16
from dfshield.runs.execution.protocol import Worker
from dfshield.runs.inputs.classifier_folder import load_classifier
from dfshield.runs.inputs.synthesizer import synthesizer_of
from dfshield.storage import Folder


@dataclass(frozen=True)
class SynthesisTrialJob:
    """Tries the faster ways of a synthesis.

    Attributes:
        teacher: the folder of the classifier.
        synthesis: how images are made.
        seed: of the run.
        num_workers: how many workers share the work.
    """

    teacher: str
    synthesis: SynthesisConfig
    seed: int
    num_workers: int

    def run(self, worker: Worker) -> Trial | None:
        """Return what `synthesis_trial` does."""
        teacher = load_classifier(Folder.at(self.teacher), device=worker.device)
        return synthesis_trial(
            teacher,
            self.synthesis,
            seed=self.seed,
            num_workers=self.num_workers,
            long=LONG,
            say=worker.monitor.say,
        )


def synthesis_trial(
    teacher: Classifier,
    synthesis: SynthesisConfig,
    *,
    seed: int,
    long: float,
    num_workers: int = 1,
    say: Callable[[str], object] = lambda _: None,
) -> Trial | None:
    """Return what was found of the faster ways to make images; None if there are none.

    Args:
        teacher: on the device of choice.
        synthesis: how images are made.
        seed: of the run.
        long: seconds of plain work, of a worker, from which they are tried.
        num_workers: how many workers share the work.
        say: called with a line before one is tried.
    """
    options, size = synthesis.engine, synthesis.batch_size
    synthesizer, together = synthesizer_of(synthesis), options.batches_per_pass or 1
    if not synthesizer.accelerated:  # nor, maybe, fitted yet
        return None
    bound = synthesizer.bind(teacher)
    ways = bound.trial_ways(seed=seed, num_batches=together, size=size, iterations=2 * MOST_STEPS)
    if ways is None:
        return None
    device = teacher.mean.device
    passes = (synthesis.num_images + synthesis.num_holdout) / (size * together)
    return run_trial(
        ways,
        [Rung.of(faster, ways.faster) for faster in accelerations(options, device)],
        iterations=bound.iterations * passes / num_workers,
        memory=memory_share(device),
        long=long,
        say=say,
    )


def accelerations(options: EngineConfig, device: torch.device) -> list[Acceleration]:
    """Return what is worth a trial on a device: compiled, and in bfloat16 if it multiplies in it.

    Args:
        options: may ask for float32.
        device: of the worker.
    """
    gpu = accelerator_of(device)
    rounds = multiplies_bfloat16() if gpu is None else gpu.has_tensor_cores
    found = [Acceleration("float32", compiled=True)]
    if rounds and options.precision == "auto":
        found.append(Acceleration("bfloat16", compiled=True))
    return found
