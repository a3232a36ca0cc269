"""Making images of a data set again, to compare them: what a worker does."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from dfshield.config import SynthesisConfig
from dfshield.errors import OtherDeviceError
from dfshield.runs.execution.engine import Engine
from dfshield.runs.execution.protocol import Worker
from dfshield.runs.inputs.classifier_folder import load_classifier
from dfshield.runs.work.canary import other_device
from dfshield.runs.work.passes import STREAMS, bound_synthesizer, passes_of, rows_of
from dfshield.runs.work.synthesis import stored_batch
from dfshield.storage import Folder, Manifest, Part, PartArrays, SurrogateDataset
from dfshield.synthesis import BoundSynthesizer


@dataclass(frozen=True)
class SampledBatch:
    """A batch of which images are compared.

    Attributes:
        part: where it stands.
        batch: its global index.
        rows: which rows of the part are compared.
    """

    part: Part
    batch: int
    rows: tuple[int, ...]


@dataclass(frozen=True)
class ResynthesisTask:
    """Makes batches of a data set again and compares images, byte for byte.

    A unit is a `SampledBatch`; its result are the rows that differ.

    Attributes:
        teacher: the folder of the classifier.
        data: the folder of the data set.
        synthesis: how its images were made.
        engine: that its parts were made under.
    """

    teacher: str
    data: str
    synthesis: SynthesisConfig
    engine: Engine

    def prepare(self, worker: Worker) -> Callable[[SampledBatch], tuple[int, ...]]:
        """Load the teacher onto the worker's device.

        Raises:
            OtherDeviceError: if it does not compute what the data set was begun with.
        """
        teacher = load_classifier(Folder.at(self.teacher), device=worker.device)
        data = SurrogateDataset.open(self.data)
        manifest = data.manifest
        synthesizer = bound_synthesizer(self.synthesis, teacher, self.engine, data.folder)
        begun = Engine.from_json(manifest.engine) == self.engine
        if begun and (device := other_device(synthesizer, manifest)):
            raise OtherDeviceError(
                f"{device} computes other numbers than the one that the images were begun on (the "
                "canary of their manifest differs), so a difference would say nothing about them: "
                "make them again where they were made"
            )
        read = lru_cache(maxsize=1)(data.read)

        def differing(unit: SampledBatch) -> tuple[int, ...]:
            stored = read(unit.part)
            again, first = _made_again(
                synthesizer, manifest, unit.part, unit.batch, self.engine.batches_per_pass
            )
            return tuple(row for row in unit.rows if not _equal(stored, row, again, row - first))

        return differing

    def label(self, unit: SampledBatch) -> str:
        """Return how people call a batch."""
        return f"{unit.part.path}, batch {unit.batch}"


def _made_again(
    synthesizer: BoundSynthesizer, manifest: Manifest, part: Part, batch: int, per_pass: int
) -> tuple[PartArrays, int]:
    """Return a batch, made with those of its pass, and the row of its part where it begins."""
    rows = rows_of(manifest, part, batch)
    (in_pass,) = [b for b in passes_of(manifest, part, per_pass) if batch in b]
    made = synthesizer.synthesize_batches(
        seed=manifest.seed, batches=in_pass, size=len(rows), stream=STREAMS[part.split]
    )
    of_batch = made[in_pass.index(batch)]
    return stored_batch(synthesizer.teacher, manifest, batch, of_batch), rows.start


def _equal(stored: PartArrays, row: int, again: PartArrays, in_batch: int) -> bool:
    return all(
        np.array_equal(getattr(stored, name)[row], getattr(again, name)[in_batch])
        for name in ("images", "labels", "teacher_logits")
    )
