"""Making parts of the surrogate data set: what a worker does."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from dfshield.classifiers import Classifier
from dfshield.config import SynthesisConfig
from dfshield.runs.execution.engine import Engine
from dfshield.runs.execution.protocol import Worker
from dfshield.runs.inputs.classifier_folder import load_classifier
from dfshield.runs.inputs.synthesizer import synthesizer_of
from dfshield.runs.work.canary import require_canary
from dfshield.runs.work.part_checkpoint import PartCheckpoint, PartState
from dfshield.runs.work.passes import STREAMS, bound_synthesizer, passes_of, rows_of
from dfshield.storage import (
    Commit,
    Folder,
    Manifest,
    Part,
    PartArrays,
    PartError,
    decode_images,
    encode_images,
    num_agreeing,
    part_table,
    read_commit,
    read_manifest,
    table_checksum,
    write_part,
)
from dfshield.synthesis import (
    BatchState,
    BoundSynthesizer,
    OnIteration,
    SynthesizedBatch,
)


@dataclass(frozen=True, eq=False)
class PartSummary:
    """What is known of a part once it is committed.

    Attributes:
        commit: its checksum and size.
        seconds: what making it took.
        labels: (n,), the class each of its images was made for.
        agreeing: how many of its images the teacher assigns to their label.
        losses: means over its images of the synthesizer's columns ``loss_...``; ``loss_total`` is
            called ``loss``.
    """

    commit: Commit
    seconds: float
    labels: np.ndarray
    agreeing: int
    losses: dict[str, float]

    @classmethod
    def of(cls, arrays: PartArrays, commit: Commit, seconds: float) -> "PartSummary":
        """Sum up the columns of a part."""
        losses = {
            name.removesuffix("_total"): float(values.mean(dtype=np.float64))
            for name, values in arrays.columns.items()
            if name.startswith("loss_")
        }
        return cls(
            commit=commit,
            seconds=seconds,
            labels=arrays.labels.copy(),  # not a view, which would keep the images in memory
            agreeing=num_agreeing(arrays.labels, arrays.teacher_logits),
            losses=losses,
        )


@dataclass(frozen=True)
class SynthesisTask:
    """Makes parts of a surrogate data set; a unit is a `Part`.

    Attributes:
        teacher: the folder of the classifier.
        data: the folder of the data set, with its manifest.
        synthesis: how images are made.
        sink: where parts go: into the data set's folder, or to `Worker.put` as tables.
        new_canary: whether the workers make the canary; else that of the manifest counts.
    """

    teacher: str
    data: str
    synthesis: SynthesisConfig
    sink: Literal["parquet", "object_store"]
    new_canary: bool = False

    def prepare(self, worker: Worker) -> Callable[[Part], PartSummary]:
        """Load the teacher onto the worker's device.

        Raises:
            OtherDeviceError: on a GPU that does not compute what the data set was begun with.
        """
        teacher = load_classifier(Folder.at(self.teacher), device=worker.device)
        options = self.synthesis
        folder = Folder.at(self.data)
        manifest = read_manifest(folder)
        engine = Engine.from_json(manifest.engine)
        synthesizer = bound_synthesizer(options, teacher, engine, folder)
        require_canary(synthesizer, manifest, worker, begins=self.new_canary)

        def make(part: Part) -> PartSummary:
            start = time.monotonic()
            committed = _committed(folder, manifest, part) if self.sink == "parquet" else None
            if committed is not None:  # by a worker that was lost before it could say so
                return PartSummary.of(*committed, seconds=0.0)
            checkpoint = PartCheckpoint(
                folder,
                manifest,
                part,
                state_type=synthesizer_of(options).state_type,
                every=options.checkpoint_every,
                preempted=worker.preempted,
            )
            state = checkpoint.load()
            if state.begun:
                worker.monitor.emit("part_resumed", path=part.path, batches=len(state.batches))
            arrays = make_part(
                synthesizer,
                manifest,
                part,
                per_pass=engine.batches_per_pass,
                state=state,
                checkpoint=checkpoint,
                progress=worker.monitor.advance,
            )
            if self.sink == "parquet":
                commit = write_part(folder, manifest, part, arrays)
            else:
                table = part_table(manifest, part, arrays)
                commit = Commit(table_checksum(table), None)
                worker.put(table)
            checkpoint.delete()
            return PartSummary.of(arrays, commit, time.monotonic() - start)

        return make

    def label(self, unit: Part) -> str:
        """Return how people call a part."""
        return unit.path


def _committed(folder: Folder, manifest: Manifest, part: Part) -> tuple[PartArrays, Commit] | None:
    try:
        return read_commit(folder, manifest, part)
    except PartError:
        return None


def make_part(
    synthesizer: BoundSynthesizer,
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
    batches, resume = list(state.batches), state.unfinished
    progress(float(sum(len(arrays) for arrays in batches)))
    for indices in passes_of(manifest, part, per_pass):
        if indices.stop <= part.first_batch + len(batches):
            continue
        size = len(rows_of(manifest, part, indices[0]))
        images = float(len(indices) * size)
        share = images / (synthesizer.iterations or 1)
        if resume is not None:
            progress(share * resume.iteration)
        made = synthesizer.synthesize_batches(
            seed=manifest.seed,
            batches=indices,
            size=size,
            stream=STREAMS[part.split],
            resume=resume,
            on_iteration=_on_iteration(checkpoint, batches, synthesizer, share, progress),
        )
        if not synthesizer.iterations:
            progress(images)
        resume = None
        batches += [
            stored_batch(synthesizer.teacher, manifest, batch, of_batch)
            for batch, of_batch in zip(indices, made, strict=True)
        ]
    return PartArrays.joined(batches)


def _on_iteration(
    checkpoint: PartCheckpoint,
    batches: Sequence[PartArrays],
    synthesizer: BoundSynthesizer,
    share: float,
    progress: Callable[[float], None],
) -> OnIteration:
    """Return what counts the iterations of a pass and lets the part's checkpoint be kept."""
    done_before = len(batches) * synthesizer.iterations

    def after_iteration(done: int, state: Callable[[], BatchState]) -> None:
        progress(share)
        checkpoint.after_iteration(done_before + done, batches, state)

    return after_iteration


def stored_batch(
    teacher: Classifier, manifest: Manifest, batch: int, made: SynthesizedBatch
) -> PartArrays:
    """Return a batch as it is stored, with the teacher's logits of the stored images."""
    stored = encode_images(made.images.numpy(), manifest.image_dtype)
    size = len(stored)
    return PartArrays(
        images=stored,
        labels=made.labels.numpy(),
        teacher_logits=logits_of(teacher, decode_images(stored)),
        batch=np.full(size, batch, dtype=np.int64),
        seed=np.full(size, manifest.seed, dtype=np.int64),
        columns={
            name: np.broadcast_to(values, size).copy() for name, values in made.record.items()
        },
    )


def logits_of(teacher: Classifier, images: np.ndarray) -> np.ndarray:
    """Return the teacher's logits of a batch of images in [0, 1]."""
    with torch.no_grad():
        logits: torch.Tensor = teacher(torch.from_numpy(images).to(teacher.mean.device))
    return logits.cpu().numpy()
