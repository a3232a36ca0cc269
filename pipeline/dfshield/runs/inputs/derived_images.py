"""Surrogate data sets that are derived from another one, whose images are augmented."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dfshield.classifiers import Classifier
from dfshield.config import BY_METHOD, SynthesisConfig, expand
from dfshield.engine.acceleration import Acceleration
from dfshield.errors import InputError
from dfshield.runs.layout import surrogate_folders
from dfshield.seeds import RngStream, generator
from dfshield.storage import Part, PartArrays, Split, SurrogateDataset, decode_images
from dfshield.synthesis import (
    BatchState,
    BoundSynthesizer,
    OnIteration,
    SynthesizedBatch,
    Synthesizer,
)
from dfshield.synthesis.augmentations import AUGMENTATIONS, Augmentation, Partners

SPLITS: Mapping[RngStream, Split] = {RngStream.SYNTHESIS: "data", RngStream.HOLDOUT: "holdout"}


def source_of(synthesis: SynthesisConfig) -> SurrogateDataset:
    """Return the set that a configuration derives from, by ``synthesis.data``.

    Raises:
        InputError: naming the key, if there is not exactly one.
    """
    assert synthesis.data is not None
    if synthesis.data == BY_METHOD:
        raise InputError(
            f"synthesis.data: {BY_METHOD} is for sweeps, which make that set first: name a run, or "
            "the folder of a set"
        )
    try:
        folders = surrogate_folders(expand(synthesis.data, key="synthesis.data"))
    except InputError as error:
        raise InputError(f"synthesis.data: {error}") from None
    if len(folders) > 1:
        raise InputError(
            f"synthesis.data: {synthesis.data} has a set for each of {len(folders)} seeds: name "
            f"one of them, as {folders[0]}"
        )
    return SurrogateDataset.open(folders[0])


def require_source(
    source: SurrogateDataset, synthesis: SynthesisConfig, *, teacher_fingerprint: str
) -> None:
    """Check that a set can be derived from another one.

    Raises:
        InputError: if that was made from another teacher, is not complete, or is too small.
    """
    where = f"synthesis.data: {source.folder}"
    if source.manifest.teacher_fingerprint != teacher_fingerprint:
        raise InputError(f"{where} was made from another teacher than this run's")
    missing = len(source.missing())
    if missing:
        raise InputError(
            f"{where} is not complete ({missing} of {len(source.manifest.parts)} parts are "
            "missing): finish it first"
        )
    wanted: dict[Split, tuple[str, int]] = {
        "data": ("num_images", synthesis.num_images),
        "holdout": ("num_holdout", synthesis.num_holdout),
    }
    for split, (key, size) in wanted.items():
        there = sum(part.num_images for part in source.manifest.split(split))
        if size > there:
            raise InputError(
                f"synthesis.{key}: {size:,} wanted, but {source.folder} holds {there:,} to augment"
            )


def source_identity(source: SurrogateDataset) -> dict[str, Any]:
    """Return what a derived set depends on of the one it is derived from."""
    return {
        "surrogate": source.manifest.identity,
        "surrogate_fingerprint": source.manifest.fingerprint(),
    }


class DerivedSynthesizer(Synthesizer):
    """Makes images by augmenting those of another set, which is opened when it is bound.

    Args:
        synthesis: names the augmentation, the set, and the size of the batches.
    """

    def __init__(self, synthesis: SynthesisConfig) -> None:
        assert synthesis.augment is not None
        augment = synthesis.augment
        self._synthesis = synthesis
        self._augmentation = AUGMENTATIONS.make(augment.name, **augment.options)
        self.name = augment.name  # type: ignore[misc]
        self.columns = self._augmentation.columns  # type: ignore[misc]

    def bind(
        self,
        teacher: Classifier,
        *,
        acceleration: Acceleration | None = None,
        full_pass: tuple[int, int] | None = None,
    ) -> "AugmentedImages":
        """Return what augments the images of the set; see `Synthesizer`."""
        del acceleration, full_pass  # there is no faster way
        source = source_of(self._synthesis)
        return AugmentedImages(teacher, self._augmentation, source, self._synthesis.batch_size)


class AugmentedImages(BoundSynthesizer):
    """Image i is made of image i of the same split of another set, by an augmentation.

    What a batch is mixed with are images of one part, drawn anew for every batch, so that a batch
    needs no more than two parts. Draws come from the generator of
    ``(seed, AUGMENTATION, stream, batch)``.

    Args:
        teacher: gives the logits.
        augmentation: changes the images.
        source: the other set.
        batch_size: images in all batches but the last of the hold-out.
    """

    def __init__(
        self,
        teacher: Classifier,
        augmentation: Augmentation,
        source: SurrogateDataset,
        batch_size: int,
    ) -> None:
        super().__init__(teacher)
        self._augmentation = augmentation
        self._source = source
        self._batch_size = batch_size
        self._last: tuple[Part, PartArrays] | None = None

    def _make(
        self,
        seed: int,
        batches: Sequence[int],
        size: int,
        stream: RngStream,
        resume: BatchState | None,
        on_iteration: OnIteration | None,
    ) -> list[SynthesizedBatch]:
        del resume, on_iteration  # there are no iterations
        made = []
        for batch in batches:
            draw = generator(seed, RngStream.AUGMENTATION, stream, batch)
            first = batch * self._batch_size
            images, labels = self._rows(SPLITS[stream], range(first, first + size))
            partners = self._partners(draw, SPLITS[stream], size)
            made.append(self._augmentation(images, labels, draw=draw, partners=partners))
        return made

    def _rows(self, split: Split, rows: range) -> tuple[Tensor, Tensor]:
        """Return images and labels of consecutive rows of a split."""
        found = []
        for part, of_part in self._source.placed(split, rows.stop):
            first, last = max(rows.start, of_part.start), min(rows.stop, of_part.stop)
            if first < last:
                chosen = np.arange(first, last) - of_part.start
                found.append(_chosen(self._read(part), chosen))
        images, labels = zip(*found, strict=True)
        return torch.cat(images), torch.cat(labels)

    def _read(self, part: Part) -> PartArrays:
        """Return a part, checked; the one that was read last is kept."""
        if self._last is None or self._last[0] != part:
            self._last = part, self._source.read(part)
        return self._last[1]

    def _partners(self, draw: np.random.Generator, split: Split, size: int) -> Partners | None:
        if not self._augmentation.mixes:
            return None
        placed = self._source.placed(split)
        part, of_part = placed[draw.integers(len(placed))]
        chosen = draw.integers(part.num_images, size=size)
        images, labels = _chosen(self._source.read(part), chosen)
        return Partners(images, labels, of_part.start + chosen)


def _chosen(arrays: PartArrays, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    images = torch.from_numpy(decode_images(arrays.images[rows]))
    return images, torch.from_numpy(arrays.labels[rows])
