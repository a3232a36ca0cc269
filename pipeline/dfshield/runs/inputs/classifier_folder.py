"""Classifiers in folders: of a run, or saved and published on their own, on any file system."""

from pathlib import Path

import torch

from dfshield import classifiers
from dfshield.classifiers import CONFIG_FILE, WEIGHTS_FILE, Classifier, Description, serialised
from dfshield.errors import InputError
from dfshield.runs.layout import seed_folders
from dfshield.runs.names import CONFIG_FILE as RUN_CONFIG
from dfshield.runs.names import STUDENT, TEACHER
from dfshield.storage import Folder


def load(
    location: str | Path, *, device: str | torch.device = "cpu", trust_python: bool = False
) -> Classifier:
    """Return the classifier that a location names, in eval mode.

    Args:
        location: the folder of a saved classifier, such as a run's teacher or student, or a run
            folder, which stands for its student: a local path, or a URI such as
            ``s3://bucket/runs/digits``.
        device: where the classifier goes.
        trust_python: whether its factory may be imported and called, if its source is
            ``python:...``.

    Raises:
        InputError: if it cannot be loaded; see `classifier_folder` and `dfshield.classifiers.load`.
    """
    return load_classifier(classifier_folder(location), device=device, trust_python=trust_python)


def classifier_folder(location: str | Path) -> Folder:
    """Return the folder of the classifier that a location names: itself, or a run's student.

    Raises:
        InputError: if there is none, or a run has a student for each of several seeds; with what
            the location would have to hold, or which students there are.
    """
    folder = Folder.at(location)
    if folder.local is not None and not folder.exists(""):
        above, name = folder.parent()
        reason = "is a file: name the folder that holds it"
        raise InputError(f"{folder}: {reason if above.exists(name) else 'no such folder'}")
    for candidate in (folder, folder.child(STUDENT)):
        if _holds_classifier(candidate):
            return candidate
    if not folder.exists(RUN_CONFIG):
        raise InputError(
            f"{folder}: holds no classifier: that is a folder with {WEIGHTS_FILE} and "
            f"{CONFIG_FILE}, as dfshield writes them, or a run folder, which has one in {STUDENT}/"
        )
    of_seeds = [of_seed.child(STUDENT) for _, of_seed in seed_folders(folder)]
    students = [str(student) for student in of_seeds if _holds_classifier(student)]
    if students:
        raise InputError(f"{folder}: is a run of several seeds: name one of {', '.join(students)}")
    other = f", or name its teacher, {folder}/{TEACHER}"
    raise InputError(
        f"{folder}: is a run that has no {STUDENT} yet: finish it with `dfshield run`"
        f"{other if _holds_classifier(folder.child(TEACHER)) else ''}"
    )


def named_classifier(location: str | Path, *, key: str, trust_python: bool) -> Folder:
    """Return the folder of a classifier that can be loaded: what is wrong shows before any work.

    Raises:
        InputError: naming the key.
    """
    try:
        folder = classifier_folder(location)
        load_classifier(folder, trust_python=trust_python)
    except InputError as error:
        raise type(error)(f"{key}: {error}") from None
    return folder


def _holds_classifier(folder: Folder) -> bool:
    # One of both is enough: what the folder lacks is said when it is loaded.
    return folder.exists(WEIGHTS_FILE) or folder.exists(CONFIG_FILE)


def describe(folder: Folder) -> Description:
    """Return what a classifier's folder says of it; nothing is built or called.

    Raises:
        InputError: see `dfshield.classifiers.describe`.
    """
    with folder.as_path(CONFIG_FILE) as path:
        try:
            return classifiers.describe(path)
        except InputError as error:
            raise InputError(str(error).replace(str(path), str(folder))) from None


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


def save_classifier(
    classifier: Classifier, folder: Folder, *, data_free: bool | None = None
) -> None:
    """Write a classifier into a folder, so that `load` finds it there.

    Args:
        classifier: what to write.
        folder: where to.
        data_free: whether it was hardened without a real image; None for what was not hardened.

    Raises:
        InputError: if the folder cannot be written.
    """
    for name, content in serialised(classifier, data_free=data_free).items():
        folder.write_bytes(name, content)
