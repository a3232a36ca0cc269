"""How many mini-batches a training attacks together on a GPU: as many as its memory takes."""

from collections.abc import Callable

import torch

from dfshield.config import TrainingConfig
from dfshield.engine.peak_memory import MEMORY_SHARE, PeakMemory
from dfshield.runs.execution.engine import Engine
from dfshield.training import AdversarialTrainer
from dfshield.training.trial import TrialImages, attacked

MOST_TOGETHER = 8
"""Mini-batches beyond which a pass is no faster: a GPU is busy."""


def most_together(training: TrainingConfig, plain: Engine) -> int:
    """Return how many mini-batches may be attacked together, if memory takes them.

    A small network keeps no GPU busy with one mini-batch; a CPU it does. Whoever names a number
    gets it.

    Args:
        training: of the run.
        plain: the engine without acceleration.
    """
    if plain.device == "cpu" or training.engine.batches_per_pass is not None:
        return plain.batches_per_pass
    return min(MOST_TOGETHER, training.gradrefine.num_batches)


def number_that_fits(peak_of: Callable[[int], int | None], *, memory: int | None, most: int) -> int:
    """Return how many mini-batches fit into a share of a GPU's memory at once.

    The peak of n mini-batches is p(n) = p(1) + (n - 1) (p(2) - p(1)), of which two are measured.

    Args:
        peak_of: returns the most bytes held while so many mini-batches are attacked; None where
            that is not known.
        memory: bytes that may be held; None where nobody knows.
        most: the most to return, at least 1.
    """
    if memory is None or most < 2:
        return 1
    try:
        one, two = peak_of(1), peak_of(2)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return 1
    if one is None or two is None:
        return 1
    left, each = MEMORY_SHARE * memory - one, max(1, two - one)
    return max(1, min(most, 1 + int(left // each)))


def attack_peak(trainer: AdversarialTrainer, batch: TrialImages) -> Callable[[int], int | None]:
    """Return what measures the memory of attacks on the leading mini-batches of some.

    Args:
        trainer: attacks them where it stands.
        batch: at least two mini-batches.
    """

    def peak_of(number: int) -> int | None:
        memory = PeakMemory(trainer.passes.device)
        attacked(trainer, batch.leading(number), 0)
        return memory.bytes()

    return peak_of
