"""Random numbers: every draw comes from a generator derived from the run's seed.

The key of a generator is ``(stream, index, ...)``, so what it yields depends on nothing but the
run's seed and its place in the run: not on the number of workers, not on the order of work, not on
an interruption. Global generators are never touched.
"""

import operator
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import numpy as np
import torch

from dfshield.errors import InputError


def whole_seed(seed: int) -> int:
    """Return a seed, checked to be a whole number from 0.

    Raises:
        InputError: if it is not.
    """
    try:
        whole = operator.index(seed)
    except TypeError:
        whole = -1
    if whole < 0:
        raise InputError(f"seed: {seed!r} must be a whole number of at least 0")
    return whole


class RngStream(IntEnum):
    """First element of a generator's key. The numbers are part of the data format: only append."""

    TEACHER = 0
    SYNTHESIS = 1
    HOLDOUT = 2
    TRAINING = 3
    EVALUATION = 4
    VERIFICATION = 5
    SWEEP = 6
    GENERATOR = 7
    DEFENCE = 8
    DIVERSITY = 9
    AUGMENTATION = 10
    CANARY = 11
    SURFACE = 12
    BASELINE = 13


def generator(run_seed: int, stream: RngStream, *index: int) -> np.random.Generator:
    """Return the NumPy generator of one place of a run.

    Args:
        run_seed: the run's seed, a non-negative integer.
        stream: which part of the pipeline draws.
        index: further coordinates, for example the global batch index.
    """
    return np.random.default_rng(_sequence(run_seed, stream, *index))


def derived_seed(run_seed: int, stream: RngStream, *index: int) -> int:
    """Return a seed in [0, 2**31) for a library that takes only an integer."""
    sequence = _sequence(run_seed, stream, *index)
    return int(sequence.generate_state(1, np.uint32)[0] >> 1)


def _sequence(run_seed: int, stream: RngStream, *index: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(whole_seed(run_seed), spawn_key=(int(stream), *index))


@contextmanager
def torch_generators(seed: int, device: torch.device) -> Iterator[None]:
    """Let layers that draw from torch's global generators (dropout) draw from a seed in the block.

    The generators of the CPU and of ``device`` are as before afterwards.
    """
    with torch_generators_kept(device):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.default_generators[_index(device)].manual_seed(seed)
        yield


@contextmanager
def torch_generators_kept(device: torch.device) -> Iterator[None]:
    """Let the global generators of the CPU and of ``device`` be as before after the block.

    Those of other GPUs are not touched, which would wake every GPU of the machine.
    """
    with torch.random.fork_rng(devices=[_index(device)] if device.type == "cuda" else []):
        yield


def _index(device: torch.device) -> int:
    """Return the number of a GPU; without one, of the GPU that is current."""
    return torch.cuda.current_device() if device.index is None else device.index
