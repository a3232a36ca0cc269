"""What users are told when work does not fit into a GPU's memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dfshield.errors import UnfitDeviceError

REMEDY = (
    "give each worker a whole GPU (cluster.gpus_per_worker=1), fewer batches to a pass "
    "(engine.batches_per_pass=1) or a GPU with more memory, and end what else runs on it; with a "
    "smaller batch_size less is needed, too, but the result is another"
)


def format_out_of_memory(error: BaseException) -> str:
    """Return the message for work that has run out of a GPU's memory, in one line."""
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    wanted, _, _ = first.partition(". GPU ")  # which goes on with who holds how much
    return f"out of GPU memory ({wanted}): {REMEDY}"


@contextmanager
def full_gpu_told() -> Iterator[None]:
    """Raise `UnfitDeviceError`, with what to do, where the block runs out of a GPU's memory."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UnfitDeviceError(format_out_of_memory(error)) from error
