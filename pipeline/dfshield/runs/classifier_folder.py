"""Classifiers in the folders of a run, which may lie on any file system."""

import torch

from dfshield.classifiers import CONFIG_FILE, WEIGHTS_FILE, Classifier, load, serialised
from dfshield.errors import InputError
from dfshield.storage import Folder


def load_classifier(folder: Folder, *, device: str | torch.device = "cpu") -> Classifier:
    """Return the classifier in a folder of a run, whose configuration has named its source.

    Raises:
        InputError: if it is missing or damaged; see `dfshield.load`.
    """
    with folder.as_path(WEIGHTS_FILE, CONFIG_FILE) as path:
        try:
            return load(path, device=device, trust_python=True)
        except InputError as error:
            raise InputError(str(error).replace(str(path), str(folder))) from None


def save_classifier(classifier: Classifier, folder: Folder) -> None:
    """Write a classifier into a folder, as `dfshield.save` does.

    Raises:
        InputError: if the folder cannot be written.
    """
    for name, content in serialised(classifier).items():
        folder.write_bytes(name, content)
