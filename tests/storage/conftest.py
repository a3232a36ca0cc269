"""Fixtures of small surrogate data sets, and a store to keep one on."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from random_sets import random_arrays, random_manifest, write_random_set
from s3_server import s3

from dfshield.storage import Folder, Manifest, Part, PartArrays

__all__ = ["s3"]

MakeManifest = Callable[..., Manifest]
MakeArrays = Callable[[Manifest, Part], PartArrays]


@pytest.fixture
def make_manifest() -> MakeManifest:
    return random_manifest


@pytest.fixture
def make_arrays() -> MakeArrays:
    return random_arrays


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder.at(tmp_path / "set")


@pytest.fixture
def complete(folder: Folder) -> tuple[Folder, Manifest]:
    """A data set on disk with all its parts: 24 images in two shards, 5 held out."""
    manifest = random_manifest()
    write_random_set(folder, manifest)
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
