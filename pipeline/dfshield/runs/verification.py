"""Verifying surrogate data: every part by its checksum, a sample of images by making them again."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

from dfshield.classifiers import Classifier
from dfshield.config import SynthesisConfig
from dfshield.errors import InputError
from dfshield.runs.classifier_folder import load_classifier
from dfshield.runs.events import Observer
from dfshield.runs.executor import Engine, InProcessExecutor
from dfshield.runs.identity import resumed_engine
from dfshield.runs.status import seed_folders
from dfshield.runs.synthesis_task import STAGES, inversion_of, stored_batch
from dfshield.seeds import Stage, generator
from dfshield.storage import (
    MANIFEST,
    Folder,
    Part,
    PartArrays,
    SurrogateDataset,
    VerifyReport,
    part_engine,
    verify,
)


def verify_run(location: str) -> list[VerifyReport]:
    """Verify the surrogate data of a run folder, of every seed, or a single data set.

    Raises:
        InputError: if there is none.
    """
    return [verify(data) for data in data_folders(location)]


def data_folders(location: str) -> list[Folder]:
    """Return the surrogate data sets of a run folder, one a seed, or the data set itself.

    Raises:
        InputError: if there is none.
    """
    folder = Folder.at(location)
    if folder.exists(MANIFEST):
        return [folder]
    synthetic = [of_seed.child("synthetic") for _, of_seed in seed_folders(folder)]
    present = [data for data in synthetic if data.exists(MANIFEST)]
    if not present:
        raise InputError(f"{folder}: no surrogate data set here, nor in its synthetic/")
    return present


@dataclass(frozen=True)
class Resynthesis:
    """How a sample of images compares with the same images made again.

    Attributes:
        location: the data set.
        num_images: how many were compared.
        num_batches: how many batches were made again for that.
        differing: the images that differ in pixels, label or logits: path of the part, row.
    """

    location: str
    num_images: int
    num_batches: int
    differing: tuple[tuple[str, int], ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as a value that ``json.dumps`` takes."""
        differing = [{"part": part, "image": row} for part, row in self.differing]
        return {**vars(self), "differing": differing, "ok": not self.differing}

    def discard(self) -> None:
        """Delete the parts that hold images that differ."""
        folder = Folder.at(self.location)
        for part in {part for part, _ in self.differing}:
            folder.delete(part)


def resynthesize(location: str, num_images: int, *, observer: Observer) -> list[Resynthesis]:
    """Make a sample of a run's images again and compare them, byte for byte.

    The images are drawn at random from the parts that verify, always the same ones. An image is
    optimised together with its batch, so whole batches are made again.

    Args:
        location: a run folder, which holds the teacher beside the data.
        num_images: how many images of each data set.
        observer: is told how it goes.

    Raises:
        InputError: if there is no teacher, it is another one, or this machine cannot compute under
            the engine that the images were made with.
    """
    teacher = load_classifier(Folder.at(location).child("teacher"))
    return [
        _resynthesized(SurrogateDataset.open(folder), teacher, num_images, observer)
        for folder in data_folders(location)
    ]


def _resynthesized(
    data: SurrogateDataset, teacher: Classifier, num_images: int, observer: Observer
) -> Resynthesis:
    manifest = data.manifest
    if teacher.fingerprint() != manifest.teacher_fingerprint:
        raise InputError(f"{data.folder} was made from another teacher than the one beside it")
    sample = _sample(data, num_images)
    batches = sum(len(of_part) for of_part in sample.values())
    observer.begin("Synthesizing again", total=batches, done=0, unit="batches")
    differing: list[tuple[str, int]] = []
    for part, rows_by_batch in sample.items():
        bound = part_engine(data.folder, part)
        here = InProcessExecutor().engine()
        engine = resumed_engine(here, bound, where=data.folder, replan=False)
        engine.bind()
        stored = data.read(part)
        for batch, rows in rows_by_batch.items():
            again = _made_again(data, teacher, part, batch, engine)
            for row in rows:
                in_batch = row - (batch - part.first_batch) * manifest.batch_size
                if not _equal(stored, row, again, in_batch):
                    differing.append((part.path, row))
            observer.advance(1.0)
    observer.end()
    compared = sum(len(rows) for of_part in sample.values() for rows in of_part.values())
    return Resynthesis(str(data.folder), compared, batches, tuple(differing))


def _sample(data: SurrogateDataset, num_images: int) -> dict[Part, dict[int, list[int]]]:
    """Return rows of parts that verify, by part and batch."""
    manifest = data.manifest
    broken = data.problems()
    images = [
        (part, row)
        for part in manifest.parts
        if part not in broken
        for row in range(part.num_images)
    ]
    draw = generator(manifest.seed, Stage.VERIFICATION)
    chosen = draw.choice(len(images), min(num_images, len(images)), replace=False)
    sample: dict[Part, dict[int, list[int]]] = {}
    for index in sorted(chosen.tolist()):
        part, row = images[index]
        batch = part.first_batch + row // manifest.batch_size
        sample.setdefault(part, {}).setdefault(batch, []).append(row)
    return sample


def _made_again(
    data: SurrogateDataset, teacher: Classifier, part: Part, batch: int, engine: Engine
) -> PartArrays:
    manifest = data.manifest
    teacher = teacher.to(torch.device(engine.device))
    inversion = inversion_of(teacher, _settings(data))
    first = (batch - part.first_batch) * manifest.batch_size
    synthesized = inversion.synthesize(
        seed=manifest.seed,
        batch=batch,
        size=min(manifest.batch_size, part.num_images - first),
        stage=STAGES[part.split],
    )
    return stored_batch(teacher, manifest, batch, synthesized)


def _settings(data: SurrogateDataset) -> SynthesisConfig:
    try:
        return SynthesisConfig.model_validate(data.manifest.identity.get("synthesis"))
    except ValidationError:
        raise InputError(
            f"{data.folder}: its manifest does not tell how the images were made"
        ) from None


def _equal(stored: PartArrays, row: int, again: PartArrays, in_batch: int) -> bool:
    return all(
        np.array_equal(getattr(stored, name)[row], getattr(again, name)[in_batch])
        for name in ("images", "labels", "teacher_logits")
    )
