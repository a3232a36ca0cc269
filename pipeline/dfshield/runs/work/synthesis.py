"""Making parts of the surrogate data set: what a worker does."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import torch

from dfshield.classifiers import Classifier
from dfshield.config import SynthesisConfig
from dfshield.runs.execution.engine import Engine
from dfshield.runs.execution.protocol import Worker
from dfshield.runs.inputs.classifier_folder import load_classifier
from dfshield.runs.work.part_checkpoint import PartCheckpoint, PartState
from dfshield.seeds import RngStream
from dfshield.storage import (
    Folder,
    Manifest,
    Part,
    PartArrays,
    PartError,
    decode_images,
    encode_images,
    part_table,
    read_manifest,
    read_part,
    table_checksum,
    write_part,
)
from dfshield.synthesis import (
    CoefficientSampler,
    Inversion,
    InversionState,
    OnIteration,
    SynthesizedBatch,
)

STREAMS = {"data": RngStream.SYNTHESIS, "holdout": RngStream.HOLDOUT}


@dataclass(frozen=True)
class PartSummary:
    """What is known of a part once it is committed.

    Attributes:
        checksum: over its columns.
        seconds: what making it took.
        losses: means over its images of what their synthesis ended with: class, feature and TV
            term, and their weighted sum.
    """

    checksum: str
    seconds: float
    losses: tuple[float, float, float, float]

    @classmethod
    def of(cls, arrays: PartArrays, checksum: str, seconds: float) -> "PartSummary":
        """Sum up the columns of a part."""
        by_class, feature, tv, total = arrays.losses.mean(axis=0, dtype=np.float64).tolist()
        return cls(checksum, seconds, (by_class, feature, tv, total))


@dataclass(frozen=True)
class SynthesisTask:
    """Makes parts of a surrogate data set; a unit is a `Part`.

    Attributes:
        teacher: the folder of the classifier.
        data: the folder of the data set, with its manifest.
        synthesis: how images are made.
        sink: where parts go: into the data set's folder, or to `Worker.put` as tables.
    """

    teacher: str
    data: str
    synthesis: SynthesisConfig
    sink: Literal["parquet", "object_store"]

    def prepare(self, worker: Worker) -> Callable[[Part], PartSummary]:
        """Load the teacher onto the worker's device."""
        teacher = load_classifier(Folder.at(self.teacher), device=worker.device)
        options = self.synthesis
        folder = Folder.at(self.data)
        manifest = read_manifest(folder)
        engine = Engine.from_json(manifest.engine)
        inversion = inversion_of(teacher, options, engine)

        def make(part: Part) -> PartSummary:
            start = time.monotonic()
            committed = _committed(folder, manifest, part) if self.sink == "parquet" else None
            if committed is not None:  # by a worker that was lost before it could say so
                return PartSummary.of(committed, committed.checksum(), 0.0)
            checkpoint = PartCheckpoint(
                folder,
                manifest,
                part,
                every=options.checkpoint_every,
                preempted=worker.preempted,
            )
            state = checkpoint.load()
            if state.begun:
                worker.monitor.emit("part_resumed", path=part.path, batches=len(state.batches))
            arrays = make_part(
                inversion,
                manifest,
                part,
                per_pass=engine.batches_per_pass,
                state=state,
                checkpoint=checkpoint,
                progress=worker.monitor.advance,
            )
            if self.sink == "parquet":
                checksum = write_part(folder, manifest, part, arrays)
            else:
                table = part_table(manifest, part, arrays)
                checksum = table_checksum(table)
                worker.put(table)
            checkpoint.delete()
            return PartSummary.of(arrays, checksum, time.monotonic() - start)

        return make

    def label(self, unit: Part) -> str:
        """Return how people call a part."""
        return unit.path


def rows_of(manifest: Manifest, part: Part, batch: int) -> range:
    """Return where the images of a batch stand in their part."""
    first = (batch - part.first_batch) * manifest.batch_size
    return range(first, min(first + manifest.batch_size, part.num_images))


def passes_of(manifest: Manifest, part: Part, per_pass: int) -> list[range]:
    """Return the batches of a part that are optimised together: as many as fit, of one size."""
    whole = part.num_images // manifest.batch_size
    first, end = part.first_batch, part.first_batch + whole
    passes = [range(b, min(b + per_pass, end)) for b in range(first, end, per_pass)]
    short = range(end, part.batches.stop)
    return [*passes, short] if short else passes


def inversion_of(teacher: Classifier, options: SynthesisConfig, engine: Engine) -> Inversion:
    """Return the inversion of a configuration under an engine."""
    return Inversion(
        teacher,
        iterations=options.iterations,
        learning_rate=options.learning_rate,
        jitter=options.jitter,
        labels=options.labels,
        coefficients=CoefficientSampler(**options.coefficients.model_dump()),
        acceleration=engine.acceleration,
        full_pass=(engine.batches_per_pass, options.batch_size),
    )


def _committed(folder: Folder, manifest: Manifest, part: Part) -> PartArrays | None:
    try:
        return read_part(folder, manifest, part)
    except PartError:
        return None


def make_part(
    inversion: Inversion,
    manifest: Manifest,
    part: Part,
    *,
    per_pass: int,
    state: PartState,
    checkpoint: PartCheckpoint,
    progress: Callable[[float], None],
) -> PartArrays:
    """Synthesize the batches of one part, ``per_pass`` at a time, going on from a state.

    ``progress`` is called with the images done, those of the state included.
    """
    batches, resume = list(state.batches), state.inversion
    progress(float(sum(len(arrays) for arrays in batches)))
    for together in passes_of(manifest, part, per_pass):
        if together.stop <= part.first_batch + len(batches):
            continue
        size = len(rows_of(manifest, part, together[0]))
        share = len(together) * size / inversion.iterations
        progress(share * (resume.iteration if resume else 0))
        synthesized = inversion.synthesize_together(
            seed=manifest.seed,
            batches=together,
            size=size,
            stage=STREAMS[part.split],
            resume=resume,
            on_iteration=_keeping(checkpoint, batches, inversion.iterations, share, progress),
        )
        resume = None
        batches += [
            stored_batch(inversion.teacher, manifest, batch, made)
            for batch, made in zip(together, synthesized, strict=True)
        ]
    columns = {
        column.name: np.concatenate([getattr(arrays, column.name) for arrays in batches])
        for column in fields(PartArrays)
    }
    return PartArrays(**columns)


def _keeping(
    checkpoint: PartCheckpoint,
    batches: Sequence[PartArrays],
    iterations: int,
    share: float,
    progress: Callable[[float], None],
) -> OnIteration:
    """Return what counts the iterations of a batch and lets the part's checkpoint be kept."""
    done_before = len(batches) * iterations

    def after_iteration(done: int, state: Callable[[], InversionState]) -> None:
        progress(share)
        checkpoint.after_iteration(done_before + done, batches, state)

    return after_iteration


def stored_batch(
    teacher: Classifier, manifest: Manifest, batch: int, synthesized: SynthesizedBatch
) -> PartArrays:
    """Return a batch as it is stored, with the teacher's logits of the stored images."""
    stored = encode_images(synthesized.images.numpy(), manifest.image_dtype)
    size = len(stored)
    return PartArrays(
        images=stored,
        labels=synthesized.labels.numpy(),
        teacher_logits=logits_of(teacher, decode_images(stored)),
        alphas=np.tile(np.array(synthesized.coefficients), (size, 1)),
        batch=np.full(size, batch, dtype=np.int64),
        seed=np.full(size, manifest.seed, dtype=np.int64),
        losses=np.tile(synthesized.losses.numpy(), (size, 1)),
    )


def logits_of(teacher: Classifier, images: np.ndarray) -> np.ndarray:
    """Return the teacher's logits of a batch of images in [0, 1]."""
    with torch.no_grad():
        logits: torch.Tensor = teacher(torch.from_numpy(images).to(teacher.mean.device))
    return logits.cpu().numpy()
