"""Classifiers in the folders of a run, which may lie on any file system."""

from pathlib import Path

import torch

from dfshield import classifiers
from dfshield.classifiers import CONFIG_FILE, WEIGHTS_FILE, Classifier, serialised
from dfshield.errors import InputError
from dfshield.storage import Folder


def load(
    location: str | Path, *, device: str | torch.device = "cpu", trust_python: bool = False
) -> Classifier:
    """Return the classifier in a folder, in eval mode: the teacher or the student of a run, say.

    Args:
        location: a local path, or a URI such as ``s3://bucket/runs/digits/student``.
        device: where the classifier goes.
        trust_python: whether its factory may be imported and called, if its source is
            ``python:...``.

    Raises:
        InputError: if it cannot be loaded; see `dfshield.classifiers.load`.
    """
    if isinstance(location, Path) or "://" not in location:
        return classifiers.load(location, device=device, trust_python=trust_python)
    return load_classifier(Folder.at(location), device=device, trust_python=trust_python)


def load_classifier(
    folder: Folder, *, device: str | torch.device = "cpu", trust_python: bool = True
) -> Classifier:
    """Return the classifier in a folder of a run, whose configuration has named its source.

    Raises:
        InputError: see `load`.
    """
    with folder.as_path(WEIGHTS_FILE, CONFIG_FILE) as path:
        try:
            return classifiers.load(path, device=device, trust_python=trust_python)
        except InputError as error:
            raise type(error)(str(error).replace(str(path), str(folder))) from None


def save_classifier(classifier: Classifier, folder: Folder) -> None:
    """Write a classifier into a folder, so that `load` finds it there.

    Raises:
        InputError: if the folder cannot be written.
    """
    for name, content in serialised(classifier).items():
        folder.write_bytes(name, content)
