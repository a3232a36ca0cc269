"""What is recorded of every finished shard: agreement, class counts and a picture."""

from typing import Any

import numpy as np
import torch

from dfshield.report import image_grid
from dfshield.storage import Folder, Manifest, Part, decode_images, read_part

IMAGES_PER_CLASS = 8


def summarise_shards(folder: Folder, manifest: Manifest) -> None:
    """Write ``summary/shard-00000.json`` and ``.png`` of every shard that has none as it now is.

    The JSON holds the number of images, the share that the teacher assigns to their label and the
    images per class; the picture shows the first images of every class.
    """
    shards: dict[int, list[Part]] = {}
    for part in manifest.split("data"):
        shards.setdefault(part.shard, []).append(part)
    for shard, parts in shards.items():
        name = f"summary/shard-{shard:05d}"
        num_images = sum(part.num_images for part in parts)
        if (
            folder.exists(f"{name}.json")
            and read_summary(folder, shard)["num_images"] == num_images
        ):
            continue
        summary, picture = _summarise(folder, manifest, shard, parts)
        folder.write_bytes(f"{name}.png", picture)
        folder.write_json(f"{name}.json", summary)


def read_summary(folder: Folder, shard: int) -> dict[str, Any]:
    """Return the summary of a shard."""
    summary = folder.read_json(f"summary/shard-{shard:05d}.json")
    assert isinstance(summary, dict)
    return summary


def _summarise(
    folder: Folder, manifest: Manifest, shard: int, parts: list[Part]
) -> tuple[dict[str, Any], bytes]:
    counts = np.zeros(manifest.num_classes, dtype=np.int64)
    agreeing = 0
    shown: list[np.ndarray] = []
    shown_labels: list[int] = []
    for part in parts:
        arrays = read_part(folder, manifest, part)
        agreeing += int((arrays.teacher_logits.argmax(axis=1) == arrays.labels).sum())
        for image, label in zip(decode_images(arrays.images), arrays.labels, strict=True):
            if counts[label] < IMAGES_PER_CLASS:
                shown.append(image)
                shown_labels.append(int(label))
            counts[label] += 1
    num_images = int(counts.sum())
    summary = {
        "num_images": num_images,
        "teacher_agreement": agreeing / num_images,
        "class_counts": counts.tolist(),
    }
    picture = image_grid(
        torch.from_numpy(np.stack(shown)),
        torch.tensor(shown_labels),
        manifest.class_names,
        per_class=IMAGES_PER_CLASS,
        title=f"Surrogate images, shard {shard}",
    )
    return summary, picture
