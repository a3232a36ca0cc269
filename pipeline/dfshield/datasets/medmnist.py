"""The eleven two-dimensional, single-label sets of MedMNIST, in any size they are published in."""

import ast
import importlib.util
from functools import cache
from pathlib import Path
from typing import TypedDict

from dfshield.datasets.files import required
from dfshield.datasets.images import ImageSet
from dfshield.datasets.npz import opened, read_split
from dfshield.errors import DfshieldError, InputError

MEDMNIST = (
    "pathmnist",
    "dermamnist",
    "octmnist",
    "pneumoniamnist",
    "retinamnist",
    "bloodmnist",
    "breastmnist",
    "tissuemnist",
    "organamnist",
    "organcmnist",
    "organsmnist",
)
"""RetinaMNIST's grades are ordered, but every image has exactly one: it is used as five classes."""


class Info(TypedDict):
    """What :func:`info` says of a set, among other things."""

    task: str
    label: dict[str, str]
    n_channels: int


def load_medmnist(name: str, split: str, path: Path | None) -> ImageSet:
    """Return a split of a MedMNIST set from its published ``.npz`` file.

    Args:
        name: one of :data:`MEDMNIST`.
        split: ``train``, ``val`` or ``test``.
        path: the file (``NAME.npz`` is 28x28, ``NAME_64.npz`` 64x64, ...) or its folder.

    Raises:
        InputError: the file is missing, damaged, of another set, or one of several in its folder.
    """
    path = required(
        path,
        name=name,
        wanted=f"the file {name}.npz (or {name}_64.npz ...) or its folder",
        source="published on medmnist.com",
    )
    file = _file_in(path, name) if path.is_dir() else path
    about = info()
    if file.stem.split("_")[0] in about.keys() - {name}:
        raise InputError(f"{file}: is the file of another set: wanted {name}.npz or {name}_64.npz")
    with opened(file) as archive:
        images, labels = read_split(archive, file, split)
    names = about[name]["label"]
    class_names = tuple(names[str(label)] for label in range(len(names)))
    loaded = ImageSet(images, labels, class_names, name, split, origin=str(file))
    channels = about[name]["n_channels"]
    if loaded.input_shape[0] != channels:
        raise InputError(
            f"{file}: images have {loaded.input_shape[0]} channels, but {name} has {channels}: "
            "is it the file of another set?"
        )
    return loaded


def _file_in(folder: Path, name: str) -> Path:
    found = sorted({*folder.glob(f"{name}.npz"), *folder.glob(f"{name}_*.npz")})
    if not found:
        raise InputError(
            f"path: {folder} holds neither {name}.npz nor {name}_64.npz, {name}_128.npz or "
            f"{name}_224.npz (published on medmnist.com)"
        )
    if len(found) > 1:
        files = ", ".join(file.name for file in found)
        raise InputError(f"path: {folder} holds {files}: give the path of the one that is meant")
    return found[0]


@cache
def info() -> dict[str, Info]:
    """Return ``medmnist.INFO``: of every set its task, class names, channels and more.

    Raises:
        DfshieldError: the installed medmnist keeps this table in another way.
    """
    # Read from the source text, not imported: importing medmnist (even medmnist.info alone) makes
    # a folder in the user's home. The table is a plain literal, so nothing has to be executed.
    spec = importlib.util.find_spec("medmnist")
    if spec is None or not spec.submodule_search_locations:
        raise DfshieldError("the package medmnist is not installed: pip install 'medmnist>=3.0.2'")
    source = Path(spec.submodule_search_locations[0]) / "info.py"
    for statement in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "INFO":
            table: dict[str, Info] = ast.literal_eval(statement.value)
            return table
    raise DfshieldError(f"{source}: has no table INFO: install medmnist 3.0.2")
