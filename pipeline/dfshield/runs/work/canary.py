"""The canary: a few iterations that tell whether a worker computes the bytes of a data set.

The manifest keeps their digest, made once by the worker that began. Every worker makes them too
before its first part. A GPU that comes to another digest gets no work: its parts would not be equal
to the byte. A CPU does get work: on CPUs a data set may go on elsewhere, but the user is told once
that what is made from then on is not what the first machine would have made.
"""

import hashlib
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dfshield.config import SynthesisConfig
from dfshield.engine.numerics import accelerator_of
from dfshield.errors import OtherDeviceError
from dfshield.runs.execution.engine import Engine
from dfshield.runs.execution.protocol import Worker
from dfshield.runs.inputs.classifier_folder import load_classifier
from dfshield.runs.watching.events import Monitor
from dfshield.runs.work.passes import STREAMS, bound_synthesizer, passes_of, rows_of
from dfshield.seeds import RngStream, generator
from dfshield.storage import Folder, Manifest, read_manifest
from dfshield.synthesis import BatchState, BoundSynthesizer

ITERATIONS = 3
DIFFERS = "canary_differs"
"""The event of a worker on a CPU that comes to another digest."""


class _DoneError(Exception):
    """Ends a pass after the iterations of the canary."""


class _Hash(Protocol):
    def update(self, data: bytes | np.ndarray, /) -> None: ...


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
    digest = hashlib.sha256()

    def after_iteration(done: int, state: Callable[[], BatchState]) -> None:
        if done == ITERATIONS:
            _add(digest, [getattr(state(), field.name) for field in fields(state())])
            raise _DoneError

    with suppress(_DoneError):
        made = synthesizer.synthesize_batches(
            seed=manifest.seed,
            batches=batches,
            size=size,
            stream=STREAMS[part.split],
            on_iteration=after_iteration,
        )
        _add(digest, [(one.images, one.labels) for one in made])
    draw = generator(manifest.seed, RngStream.CANARY)
    images = torch.from_numpy(draw.random((size, *manifest.image_shape), dtype=np.float32))
    with torch.no_grad():
        _add(digest, synthesizer.teacher(images.to(synthesizer.teacher.mean.device)))
    return digest.hexdigest()


def _add(digest: _Hash, value: object) -> None:
    """Add a value, of tensors, numbers and plain containers, to a digest."""
    if isinstance(value, Tensor):
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    elif isinstance(value, Mapping):
        _add(digest, list(value.items()))
    elif isinstance(value, list | tuple):
        for item in value:
            _add(digest, item)
    else:
        digest.update(repr(value).encode())


def require_canary(synthesizer: BoundSynthesizer, manifest: Manifest, *, monitor: Monitor) -> None:
    """Check that this process computes the bytes that a data set was begun with, if it says which.

    On a CPU that does not, the event `DIFFERS` tells it, and the work goes on.

    Args:
        synthesizer: bound to the teacher.
        manifest: of the data set; one of an older version has no canary.
        monitor: of the worker.

    Raises:
        OtherDeviceError: on a GPU that does not.
    """
    if manifest.canary is None or canary_of(synthesizer, manifest) == manifest.canary:
        return
    gpu = accelerator_of(synthesizer.teacher.mean.device)
    if gpu is None:
        monitor.emit(DIFFERS, host=os.uname().nodename)
        return
    raise OtherDeviceError(
        f"{gpu.format()} computes other numbers than the GPU that the images were begun on (the "
        "canary of their manifest differs): use GPUs of one model with one driver, or begin anew "
        "with --replan"
    )


@dataclass(frozen=True)
class CanaryJob:
    """Computes the canary of a data set that begins.

    Attributes:
        teacher: the folder of the classifier.
        data: the folder of the data set, with its manifest.
        synthesis: how images are made.
    """

    teacher: str
    data: str
    synthesis: SynthesisConfig

    def run(self, worker: Worker) -> str:
        """Return its digest."""
        folder = Folder.at(self.data)
        manifest = read_manifest(folder)
        teacher = load_classifier(Folder.at(self.teacher), device=worker.device)
        engine = Engine.from_json(manifest.engine)
        return canary_of(bound_synthesizer(self.synthesis, teacher, engine, folder), manifest)
