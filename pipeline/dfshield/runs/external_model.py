"""Models of other origin, measured without a run: a folder that holds the model and its results.

The configuration names the model as ``teacher``, the images as ``evaluation.data``; what neither it
nor the model's own folder says about its input and classes is taken from the images.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from dfshield.classifiers import WEIGHTS_FILE, Classifier
from dfshield.config import Config
from dfshield.errors import ChangedCodeError
from dfshield.runs.context import RunContext
from dfshield.runs.execution.protocol import Executor
from dfshield.runs.inputs.attack_plans import attacks_of
from dfshield.runs.inputs.classifier_folder import (
    load_classifier,
    named_classifier,
    save_classifier,
)
from dfshield.runs.inputs.evaluation_images import require_evaluation_data
from dfshield.runs.inputs.real_data import read_images
from dfshield.runs.inputs.teacher_remarks import remarks
from dfshield.runs.inputs.teacher_source import imported_teacher, saved_location
from dfshield.runs.layout import RunLayout
from dfshield.runs.lease import Lease
from dfshield.runs.watching.event_log import EventLog
from dfshield.runs.watching.events import Observer
from dfshield.runs.work.measuring import Subject
from dfshield.storage import Folder

MODEL = "model"
_OF_ANY_SHAPE = ("python:", "dfshield:")


@contextlib.contextmanager
def standalone(
    config: Config,
    layout: RunLayout,
    *,
    surrogate: str | None,
    executor: Executor,
    observer: Observer,
) -> Iterator[tuple[RunContext, Subject]]:
    """Give the place and the model of a measurement without a run, for the block.

    Args:
        config: names model, weights, images and threat model.
        layout: the folder of model and results.
        surrogate: the folder of another classifier of the same images, or a run, or None.
        executor: who works.
        observer: who watches.

    Raises:
        InputError: for a model or images that cannot be had, or a folder that another process is
            at work in.
    """
    attacks_of(config)
    log = EventLog(layout.root)
    context = RunContext(config, layout, executor, observer, log)
    with Lease(layout.root, on_beat=log.flush):
        try:
            yield context, _subject(context, surrogate)
        finally:
            log.flush()


def _subject(context: RunContext, surrogate: str | None) -> Subject:
    config, folder = context.config, context.layout.root.child(MODEL)
    model = _built(config)
    for remark in remarks(model):
        context.observer.say(remark)
    if not _is_kept(context, folder, model):
        save_classifier(model, folder)
    other = None
    if surrogate is not None:
        trusted = config.teacher.trust_python
        other = named_classifier(surrogate, key="--surrogate", trust_python=trusted)
    return Subject(config.name, folder, surrogate=other)


def _is_kept(context: RunContext, folder: Folder, model: Classifier) -> bool:
    """Return whether the folder holds this very model; say so where it holds another one."""
    if not folder.exists(WEIGHTS_FILE):
        return False
    try:
        kept = load_classifier(folder)
    except ChangedCodeError:
        context.observer.say(
            f"{model.architecture.source} answers otherwise than when it was measured here: its "
            "code was changed since, so it is measured as another model"
        )
        return False
    if kept.fingerprint() == model.fingerprint():
        return True
    context.observer.say(f"{folder} held another model, whose results stay beside those of this")
    return False


def _built(config: Config) -> Classifier:
    if saved_location(config) is not None:
        return imported_teacher(config)
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
    return imported_teacher(config, **known)
