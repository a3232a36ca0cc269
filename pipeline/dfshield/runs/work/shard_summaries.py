"""What is recorded of every finished shard: agreement, class counts and a picture."""

import io
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image

from dfshield.errors import InputError
from dfshield.storage import Folder, Manifest, Part, PartArrays, decode_images, read_part

IMAGES_PER_CLASS = 8


def summarise_shards(
    folder: Folder, manifest: Manifest, read: Callable[[Part], PartArrays] | None = None
) -> None:
    """Write ``summary/shard-00000.json`` and ``.png`` of every shard whose own are not up to date.

    The JSON holds the number of images, the share that the teacher assigns to their label and the
    images per class; the picture shows the first images of every class.

    Args:
        folder: where the summaries go.
        manifest: what the data set holds.
        read: returns the images of a part; None: they are read from the folder.

    Raises:
        PartError: if a part that has to be read is missing or broken.
    """
    if read is None:
        read = partial(read_part, folder, manifest)
    for shard, parts in _shards(manifest).items():
        if _drawn(folder, manifest, shard, parts) is None:
            summary, picture = _summarise(read, manifest, shard, parts)
            folder.write_bytes(f"{_name(shard)}.png", picture)
            folder.write_json(f"{_name(shard)}.json", summary)


def shard_summaries(folder: Folder, manifest: Manifest) -> list[dict[str, Any]]:
    """Return the summary of every shard, computed where the folder holds none; writes nothing.

    Raises:
        PartError: if a part that has to be read is missing or broken.
    """
    read = partial(read_part, folder, manifest)
    return [
        _recorded(folder, manifest, shard, parts) or _summarise(read, manifest, shard, parts)[0]
        for shard, parts in _shards(manifest).items()
    ]


def shard_picture(folder: Folder, manifest: Manifest, shard: int) -> bytes:
    """Return the picture (PNG) of a shard, drawn where the folder holds none; writes nothing.

    Raises:
        PartError: if a part that has to be read is missing or broken.
    """
    read = partial(read_part, folder, manifest)
    parts = _shards(manifest).get(shard, [])
    return _drawn(folder, manifest, shard, parts) or _summarise(read, manifest, shard, parts)[1]


def summary_files(manifest: Manifest) -> list[str]:
    """Return the names of the summaries of all shards."""
    return [f"{_name(s)}.{suffix}" for s in _shards(manifest) for suffix in ("json", "png")]


def _name(shard: int) -> str:
    return f"summary/shard-{shard:05d}"


def _shards(manifest: Manifest) -> dict[int, list[Part]]:
    """Return the parts of every shard, by its number, in order."""
    parts: dict[int, list[Part]] = defaultdict(list)
    for part in manifest.split("data"):
        parts[part.shard].append(part)
    return dict(sorted(parts.items()))


def _recorded(
    folder: Folder, manifest: Manifest, shard: int, parts: Sequence[Part]
) -> dict[str, Any] | None:
    """Return the summary in the folder, or None if it is missing, broken or of fewer images."""
    try:
        summary = folder.read_json(f"{_name(shard)}.json")
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


def _drawn(folder: Folder, manifest: Manifest, shard: int, parts: Sequence[Part]) -> bytes | None:
    """Return the picture in the folder, or None if it, or the summary beside it, is not valid."""
    if _recorded(folder, manifest, shard, parts) is None:
        return None
    try:
        picture = folder.read_bytes(f"{_name(shard)}.png")
        with Image.open(io.BytesIO(picture), formats=["PNG"]) as image:
            image.verify()
    except (InputError, OSError, SyntaxError, ValueError):
        return None
    return picture


def _summarise(
    read: Callable[[Part], PartArrays], manifest: Manifest, shard: int, parts: Sequence[Part]
) -> tuple[dict[str, Any], bytes]:
    counts = np.zeros(manifest.num_classes, dtype=np.int64)
    agreeing = 0
    shown: list[np.ndarray] = []
    shown_labels: list[int] = []
    for part in parts:
        arrays = read(part)
        agreeing += int((arrays.teacher_logits.argmax(axis=1) == arrays.labels).sum())
        for image, label in zip(decode_images(arrays.images), arrays.labels, strict=True):
            if counts[label] < IMAGES_PER_CLASS:
                shown.append(image.copy())  # a view would keep the whole part in memory
                shown_labels.append(int(label))
            counts[label] += 1
    num_images = int(counts.sum())
    summary = {
        "num_images": num_images,
        "teacher_agreement": agreeing / num_images,
        "class_counts": counts.tolist(),
    }
    from dfshield.report import image_grid  # brings matplotlib, which workers can do without

    picture = image_grid(
        torch.from_numpy(np.stack(shown)),
        torch.tensor(shown_labels),
        manifest.class_names,
        per_class=IMAGES_PER_CLASS,
        title=f"Surrogate images, shard {shard}",
    )
    return summary, picture
