"""Models of other origin, measured without a run: a folder that holds the model and its results.

The configuration names the model as ``teacher``, the images as ``evaluation.data``; what is not
said about the model's input and classes is taken from the images.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dfshield.classifiers import WEIGHTS_FILE, Classifier
from dfshield.classifiers.weights import read_weights
from dfshield.config import Config, expand
from dfshield.errors import InputError
from dfshield.runs.attack_plans import attacks_of
from dfshield.runs.classifier_folder import load_classifier, save_classifier
from dfshield.runs.context import RunContext
from dfshield.runs.event_log import EventLog
from dfshield.runs.events import Observer
from dfshield.runs.executor import Executor
from dfshield.runs.layout import RunLayout
from dfshield.runs.lease import Lease
from dfshield.runs.measuring import Subject
from dfshield.runs.real_images import require_evaluation_data
from dfshield.runs.realdata import read_images
from dfshield.runs.teacher import imported_teacher
from dfshield.storage import Folder

MODEL = "model"
_OF_ANY_SHAPE = ("python:", "dfshield:")


@contextlib.contextmanager
def standalone(
    config: Config, *, surrogate: str | None, executor: Executor, observer: Observer
) -> Iterator[tuple[RunContext, Subject]]:
    """Give the place and the model of a measurement without a run, for the block.

    Args:
        config: names model, weights, images, threat model and folder.
        surrogate: the folder of another classifier of the same images, or None.
        executor: who works.
        observer: who watches.

    Raises:
        InputError: for a model or images that cannot be had, or a folder that another process is
            at work in.
    """
    attacks_of(config)
    layout = RunLayout.of(config)
    log = EventLog(layout.root)
    context = RunContext(config, layout, executor, observer, log)
    with Lease(layout.root, on_beat=log.flush):
        try:
            yield context, _subject(config, layout.root.child(MODEL), surrogate)
        finally:
            log.flush()


def _subject(config: Config, folder: Folder, surrogate: str | None) -> Subject:
    model = _built(config)
    stored = folder.exists(WEIGHTS_FILE)
    if not stored or load_classifier(folder).fingerprint() != model.fingerprint():
        save_classifier(model, folder)
    other = None if surrogate is None else Folder.at(surrogate)
    if other is not None:
        load_classifier(other, trust_python=False)  # what is wrong shows before any work
    return Subject(config.name, folder, model, surrogate=other)


def _built(config: Config) -> Classifier:
    data = require_evaluation_data(config)
    images = read_images(data, split=data.split, key="evaluation.data")
    source = config.teacher.source
    known: dict[str, Any] = {}
    if source.startswith(_OF_ANY_SHAPE):
        known["input_shape"] = images.input_shape
    if not source.startswith("pytorchcv:"):
        known |= {"num_classes": images.num_classes, "class_names": images.class_names}
    if config.teacher.class_names is not None:
        known.pop("num_classes", None)  # there may be more than the images show
    if config.teacher.num_classes not in (None, images.num_classes):
        known.pop("class_names", None)
    if source.startswith("python:") and config.teacher.mean is None and not _knows_mean(config):
        # A model of somebody else's takes images in [0, 1] and normalises inside.
        known |= {"mean": (0.0,), "std": (1.0,)}
    return imported_teacher(config, **known)


def _knows_mean(config: Config) -> bool:
    """Return whether the weights file says how images were normalised."""
    weights = config.teacher.weights
    if weights in (None, "download"):
        return False
    path = Path(expand(str(weights), key="teacher.weights"))
    try:
        return read_weights(path).normalisation is not None
    except InputError as error:
        raise InputError(f"teacher.weights: {error}") from None
