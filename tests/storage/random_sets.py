"""Small surrogate data sets, made of random numbers that depend on the batch alone."""

import numpy as np

from dfshield.storage import (
    Folder,
    Manifest,
    Part,
    PartArrays,
    encode_images,
    format_of,
    plan_parts,
    write_manifest,
    write_part,
)
from dfshield.storage.columns import FORMAT_1


def random_manifest(num_images: int = 24, num_holdout: int = 5, **changes: object) -> Manifest:
    sizes = {"batch_size": 4, "part_size": 8, "shard_size": 16}
    sizes |= {key: changes.pop(key) for key in sizes if key in changes}
    columns = changes.get("columns", FORMAT_1)
    fields = {
        "format_version": format_of(columns),
        "identity": {"teacher": "t" * 64, "lr": 2.5e-5, "shape": [2, 5, 3]},
        "teacher_fingerprint": "t" * 64,
        "image_shape": (2, 5, 3),
        "image_dtype": "float32",
        "num_classes": 3,
        "class_names": ("cat", "dog", "Äffle"),
        "seed": 7,
        "engine": {"device": "cpu", "threads": 1},
        "parts": (
            *plan_parts((), split="data", num_images=num_images, **sizes),
            *plan_parts((), split="holdout", num_images=num_holdout, **sizes),
        ),
    }
    return Manifest(**(fields | sizes | changes))


def random_arrays(manifest: Manifest, part: Part) -> PartArrays:
    n, k = part.num_images, manifest.num_classes
    draw = np.random.default_rng([part.split == "holdout", part.first_batch])
    images = encode_images(
        draw.random((n, *manifest.image_shape), np.float32), manifest.image_dtype
    )
    return PartArrays(
        images=images,
        labels=draw.integers(0, k, n),
        teacher_logits=draw.normal(size=(n, k)).astype(np.float32),
        batch=np.repeat(np.array(part.batches), manifest.batch_size)[:n],
        seed=np.full(n, manifest.seed),
        columns={
            name: (100 * draw.random(n)).astype(dtype) for name, dtype in manifest.columns.items()
        },
    )


def write_random_set(folder: Folder, manifest: Manifest) -> None:
    """Write a whole data set."""
    write_manifest(folder, manifest)
    for part in manifest.parts:
        write_part(folder, manifest, part, random_arrays(manifest, part))
