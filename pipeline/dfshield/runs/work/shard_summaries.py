"""What is recorded of every finished shard: agreement, class counts and a picture."""

import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image

from dfshield.errors import InputError
from dfshield.storage import (
    Folder,
    Manifest,
    Part,
    SurrogateDataset,
    SurrogateReader,
    decode_images,
    num_agreeing,
)

IMAGES_PER_CLASS = 8


class ShardSummaries:
    """Writes ``summary/shard-00000.json`` and ``.png`` of a shard once all its parts are there.

    The JSON holds the number of images, the share that the teacher assigns to their label and the
    images per class; the picture shows the first images of every class. Of a part that is made
    meanwhile only the images of the picture are read back, of another one its labels besides.

    Args:
        folder: where the summaries go.
        data: reads what the data set holds.
        agreeing: of parts that are there, by path, how many images the teacher assigns to their
            label; it is counted where it is not known.
        todo: the parts that are yet to be made.
    """

    def __init__(
        self,
        folder: Folder,
        data: SurrogateReader,
        *,
        agreeing: Mapping[str, int],
        todo: Iterable[Part],
    ) -> None:
        self._folder = folder
        self._data = data
        self._agreeing = dict(agreeing)
        self._labels: dict[str, np.ndarray] = {}
        self._parts = _by_shard(data.manifest.split("data"))
        open_parts = _by_shard(part for part in todo if part.split == "data")
        self._open = {shard: set(parts) for shard, parts in open_parts.items()}
        self._begun = set(self._open)

    def made(self, part: Part, labels: np.ndarray, agreeing: int) -> None:
        """Take note of a part that was made; write the summary of its shard if it was the last.

        Raises:
            PartError: if a part that has to be read is missing or broken.
        """
        if part.split != "data":
            return
        self._labels[part.path], self._agreeing[part.path] = labels, agreeing
        still_open = self._open[part.shard]
        still_open.discard(part)
        if not still_open:
            self._write(part.shard)

    def write_others(self) -> None:
        """Write the summary of every shard that was complete and has none, or a broken one.

        Raises:
            PartError: if a part that has to be read is missing or broken.
        """
        manifest = self._data.manifest
        for shard, parts in self._parts.items():
            if shard not in self._begun and _drawn(self._folder, manifest, parts) is None:
                self._write(shard)

    def _write(self, shard: int) -> None:
        found = _Shard(self._data, self._parts[shard], self._labels, self._agreeing)
        self._folder.write_bytes(f"{_name(shard)}.png", found.picture())
        self._folder.write_json(f"{_name(shard)}.json", found.summary())
        for part in self._parts[shard]:
            self._labels.pop(part.path, None)


def shard_summaries(data: SurrogateDataset) -> list[dict[str, Any]]:
    """Return the summary of every shard, computed where the folder holds none; writes nothing.

    Raises:
        PartError: if a part that has to be read is missing or broken.
    """
    return [
        _recorded(data.folder, data.manifest, parts) or _Shard(data, parts).summary()
        for parts in _by_shard(data.manifest.split("data")).values()
    ]


def shard_picture(data: SurrogateDataset, shard: int) -> bytes:
    """Return the picture (PNG) of a shard, drawn where the folder holds none; writes nothing.

    Raises:
        PartError: if a part that has to be read is missing or broken.
    """
    parts = _by_shard(data.manifest.split("data"))[shard]
    return _drawn(data.folder, data.manifest, parts) or _Shard(data, parts).picture()


def summary_files(manifest: Manifest) -> list[str]:
    """Return the names of the summaries of all shards."""
    shards = _by_shard(manifest.split("data"))
    return [f"{_name(shard)}.{suffix}" for shard in shards for suffix in ("json", "png")]


def _name(shard: int) -> str:
    return f"summary/shard-{shard:05d}"


def _by_shard(parts: Iterable[Part]) -> dict[int, list[Part]]:
    shards: dict[int, list[Part]] = defaultdict(list)
    for part in parts:
        shards[part.shard].append(part)
    return dict(sorted(shards.items()))


def _recorded(folder: Folder, manifest: Manifest, parts: Sequence[Part]) -> dict[str, Any] | None:
    """Return the summary in the folder, or None if it is missing, broken or of fewer images."""
    try:
        summary = folder.read_json(f"{_name(parts[0].shard)}.json")
    except InputError:
        return None
    if not isinstance(summary, dict):
        return None
    num_images = sum(part.num_images for part in parts)
    agreement, counts = summary.get("teacher_agreement"), summary.get("class_counts")
    valid = (
        summary.get("num_images") == num_images
        and isinstance(agreement, float)
        and 0 <= agreement <= 1
        and isinstance(counts, list)
        and all(isinstance(count, int) for count in counts)
        and len(counts) == manifest.num_classes
        and sum(counts) == num_images
    )
    return summary if valid else None


def _drawn(folder: Folder, manifest: Manifest, parts: Sequence[Part]) -> bytes | None:
    """Return the picture in the folder, or None if it, or the summary beside it, is not valid."""
    if _recorded(folder, manifest, parts) is None:
        return None
    try:
        picture = folder.read_bytes(f"{_name(parts[0].shard)}.png")
        with Image.open(io.BytesIO(picture), formats=["PNG"]) as image:
            image.verify()
    except (InputError, OSError, SyntaxError, ValueError):
        return None
    return picture


class _Shard:
    """A shard of which all parts are there, and what is known of them without reading them.

    Args:
        data: reads the rest.
        parts: of the shard, in their order.
        labels: of the images of a part, by its path.
        agreeing: how many images of a part the teacher assigns to their label, by its path.
    """

    def __init__(
        self,
        data: SurrogateReader,
        parts: Sequence[Part],
        labels: Mapping[str, np.ndarray] | None = None,
        agreeing: Mapping[str, int] | None = None,
    ) -> None:
        self._data = data
        self._parts = parts
        self._known = labels or {}, agreeing or {}

    @cached_property
    def _of_parts(self) -> list[tuple[np.ndarray, int]]:
        """The labels and the agreement of every part."""
        labels_of, agreeing_of = self._known
        found = []
        for part in self._parts:
            labels, agreeing = labels_of.get(part.path), agreeing_of.get(part.path)
            if agreeing is None:
                labels, logits = self._data.columns(part, "label", "teacher_logits")
                agreeing = num_agreeing(labels, logits)
            elif labels is None:
                (labels,) = self._data.columns(part, "label")
            found.append((labels, agreeing))
        return found

    def summary(self) -> dict[str, Any]:
        """What the JSON holds."""
        classes = self._data.manifest.num_classes
        counts = sum(np.bincount(labels, minlength=classes) for labels, _ in self._of_parts)
        num_images = int(np.sum(counts))
        return {
            "num_images": num_images,
            "teacher_agreement": sum(agreeing for _, agreeing in self._of_parts) / num_images,
            "class_counts": np.asarray(counts).tolist(),
        }

    def picture(self) -> bytes:
        """The first images of every class, as PNG."""
        from dfshield.report import grid_rows, image_grid  # brings matplotlib, which workers spare

        manifest = self._data.manifest
        shown_classes = grid_rows(*manifest.image_shape[1:], manifest.num_classes)
        counts = np.zeros(manifest.num_classes, dtype=np.int64)
        images = [np.empty((0, *manifest.image_shape), np.float32)]
        shown = [np.empty(0, np.int64)]
        for part, (labels, _) in zip(self._parts, self._of_parts, strict=True):
            rows = _first_rows(labels, counts, shown_classes)
            if rows:
                images.append(decode_images(self._data.images(part, rows)))
                shown.append(labels[rows])
        return image_grid(
            torch.from_numpy(np.concatenate(images)),
            torch.from_numpy(np.concatenate(shown)),
            manifest.class_names,
            per_class=IMAGES_PER_CLASS,
            title=f"Surrogate images, shard {self._parts[0].shard}",
        )


def _first_rows(labels: np.ndarray, counts: np.ndarray, shown_classes: int) -> list[int]:
    """Return the rows of a part that the picture shows; adds them to what it has of each class."""
    rows = []
    for label in np.flatnonzero(counts[:shown_classes] < IMAGES_PER_CLASS):
        of_class = np.flatnonzero(labels == label)[: IMAGES_PER_CLASS - counts[label]]
        counts[label] += len(of_class)
        rows += of_class.tolist()
    return sorted(rows)
