"""Small surrogate data sets, made of random numbers that depend on the batch alone."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from s3_server import s3

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

__all__ = ["s3"]

MakeManifest = Callable[..., Manifest]
MakeArrays = Callable[[Manifest, Part], PartArrays]


def _manifest(num_images: int = 24, num_holdout: int = 5, **changes: object) -> Manifest:
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


def _arrays(manifest: Manifest, part: Part) -> PartArrays:
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


@pytest.fixture
def make_manifest() -> MakeManifest:
    return _manifest


@pytest.fixture
def make_arrays() -> MakeArrays:
    return _arrays


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder.at(tmp_path / "set")


@pytest.fixture
def complete(folder: Folder) -> tuple[Folder, Manifest]:
    """A data set on disk with all its parts: 24 images in two shards, 5 held out."""
    manifest = _manifest()
    write_manifest(folder, manifest)
    for part in manifest.parts:
        write_part(folder, manifest, part, _arrays(manifest, part))
    return folder, manifest


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one mebibyte; needs the right to mount."""
    point = tmp_path / "disk"
    point.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(point)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount command here")
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    yield point
    subprocess.run(["umount", str(point)], check=True)
