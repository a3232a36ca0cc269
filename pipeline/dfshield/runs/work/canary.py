"""The canary: a few iterations that tell whether a worker computes the bytes of a data set.

Every worker makes them before its first part, all side by side. The manifest keeps their digest, of
the worker that was first. A GPU that comes to another digest gets no work: its parts would not be
equal to the byte. A CPU does get work: on CPUs a data set may go on elsewhere, but the user is told
once that what is made from then on is not what the first machine would have made.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields

import numpy as np
import torch
from torch import Tensor

from dfshield.engine.numerics import accelerator_of
from dfshield.errors import OtherDeviceError
from dfshield.runs.execution.engine import Engine
from dfshield.runs.execution.protocol import Worker
from dfshield.runs.work.passes import STREAMS, passes_of, rows_of
from dfshield.seeds import RngStream, generator
from dfshield.storage import Manifest
from dfshield.synthesis import BatchState, BoundSynthesizer

ITERATIONS = 3
MADE = "canary_made"
"""The event of a worker that knows the digest of a data set that begins."""
DIFFERS = "canary_differs"
"""The event of a worker on a CPU that comes to another digest."""


class _DoneError(Exception):
    """Ends a pass after the iterations of the canary."""


def canary_of(synthesizer: BoundSynthesizer, manifest: Manifest) -> str:
    """Return the digest of what this process computes: SHA-256 of the raw bytes.

    In it are the first three iterations of the data set's own first pass, in its own shapes, which
    kernels are chosen by (the images, for what makes them in one piece), and the teacher's logits
    of as many random images. The draws are those of the data set's seed.

    Args:
        synthesizer: bound to the teacher, as parts are made with it.
        manifest: of the data set.
    """
    part = manifest.parts[0]
    engine = Engine.from_json(manifest.engine)
    batches = passes_of(manifest, part, engine.batches_per_pass)[0]
    size = len(rows_of(manifest, part, batches[0]))
    found: list[object] = []

    def after_iteration(done: int, state: Callable[[], BatchState]) -> None:
        if done == ITERATIONS:
            found.extend(getattr(state(), field.name) for field in fields(state()))
            raise _DoneError

    with suppress(_DoneError):
        made = synthesizer.synthesize_batches(
            seed=manifest.seed,
            batches=batches,
            size=size,
            stream=STREAMS[part.split],
            on_iteration=after_iteration,
        )
        found.extend((one.images, one.labels) for one in made)
    draw = generator(manifest.seed, RngStream.CANARY)
    images = torch.from_numpy(draw.random((size, *manifest.image_shape), dtype=np.float32))
    with torch.no_grad():
        found.append(synthesizer.teacher(images.to(synthesizer.teacher.mean.device)))
    return digest_of(found)


def digest_of(values: object) -> str:
    """Return the SHA-256, in hexadecimal, of tensors, numbers and plain containers of them."""
    return hashlib.sha256(b"".join(_bytes_of(values))).hexdigest()


def _bytes_of(value: object) -> Iterator[bytes]:
    """Yield the bytes of a value: of tensors, numbers and plain containers of them."""
    if isinstance(value, Tensor):
        yield value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    elif isinstance(value, Mapping):
        yield from _bytes_of(list(value.items()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _bytes_of(item)
    else:
        yield repr(value).encode()


def other_device(synthesizer: BoundSynthesizer, manifest: Manifest) -> str:
    """Return which device computes other bytes here than a data set was begun with.

    It is empty where the digests agree, and for a data set of an older version, without a canary.

    Args:
        synthesizer: bound to the teacher, under the engine of the manifest.
        manifest: of the data set.
    """
    if manifest.canary is None or canary_of(synthesizer, manifest) == manifest.canary:
        return ""
    return _device_of(synthesizer)


def _device_of(synthesizer: BoundSynthesizer) -> str:
    gpu = accelerator_of(synthesizer.teacher.mean.device)
    return f"the processor of {os.uname().nodename}" if gpu is None else gpu.format()


def require_canary(
    synthesizer: BoundSynthesizer, manifest: Manifest, worker: Worker, *, begins: bool = False
) -> None:
    """Check that a worker computes the bytes that a data set was begun with, if it says which.

    On a CPU that does not, the event `DIFFERS` tells it, and the work goes on.

    Args:
        synthesizer: bound to the teacher.
        manifest: of the data set.
        worker: this process.
        begins: whether the data set begins, or begins anew: its canary is that of the worker that
            comes to it first, and every worker tells it by the event `MADE`.

    Raises:
        OtherDeviceError: on a GPU that does not.
    """
    if begins:
        own = canary_of(synthesizer, manifest)
        digest = worker.first(digest_of([manifest.identity, manifest.engine]), own)
        worker.monitor.emit(MADE, digest=digest)
        device = "" if own == digest else _device_of(synthesizer)
    else:
        device = other_device(synthesizer, manifest)
    if device and worker.device.type == "cpu":
        worker.monitor.emit(DIFFERS, device=device)
    elif device:
        raise OtherDeviceError(
            f"{device} computes other numbers than the GPU that the images were begun on (the "
            "canary of their manifest differs): use GPUs of one model and driver, or go on here "
            "with --replan"
        )
