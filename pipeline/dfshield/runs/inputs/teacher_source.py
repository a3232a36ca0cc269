"""Where the classifier to harden comes from: what its configuration names, and its identity."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dfshield.classifiers import Classifier, Description, build
from dfshield.config import Config, TeacherConfig, expand
from dfshield.errors import DfshieldError, InputError
from dfshield.runs.identity import identity_of, keys_of
from dfshield.runs.inputs.classifier_folder import classifier_folder, describe, load_classifier
from dfshield.storage import Folder

DEPENDS_ON = (
    "source",
    "options",
    "input_shape",
    "num_classes",
    "class_names",
    "mean",
    "std",
)
"""The keys of the section ``teacher`` that say what a classifier is, beside its weights."""
TRAINING = (
    "epochs",
    "batch_size",
    "optimizer",
    "learning_rate",
    "weight_decay",
    "milestones",
    "select",
)
"""The keys of ``teacher.train`` that decide what a teacher comes to, beside its images."""


def imported_teacher(config: Config, **defaults: Any) -> Classifier:
    """Return the teacher of a configuration that brings its weights.

    Args:
        config: says what the teacher is.
        defaults: arguments of `dfshield.classifiers.build` that the configuration leaves open; a
            folder leaves none open.

    Raises:
        InputError: if it cannot be built or its weights do not fit.
    """
    location = saved_location(config)
    if location is None:
        return built_teacher(config, weights=weights_path(config), **defaults)
    try:
        folder = model_folder(location)
        saved = describe(folder)
    except InputError as error:
        raise InputError(f"teacher: {error}") from None
    _require_agreement(config.teacher, saved, folder)
    return _loaded(config.teacher, saved, folder)


def built_teacher(config: Config, *, weights: str | None, **defaults: Any) -> Classifier:
    """Return the teacher that a configuration describes, with these weights or fresh ones.

    Raises:
        InputError: if it cannot be built or the weights do not fit.
    """
    teacher = config.teacher
    given = _given(teacher)
    known = {**defaults, **{key: value for key, value in given.items() if value is not None}}
    for key in ("mean", "std"):
        if len(known.get(key) or ()) == 1 and known.get("input_shape") is not None:
            known[key] = tuple(known[key]) * known["input_shape"][0]
    try:
        return build(
            teacher.source,
            options=teacher.options,
            weights=weights,
            seed=config.all_seeds[0],
            **known,
        )
    except InputError as error:
        raise InputError(f"teacher: {error}") from None


def saved_location(config: Config) -> str | None:
    """Return the folder or run that the teacher is taken from, None if it is built otherwise.

    ``teacher.source`` may name it, or ``teacher.weights`` beside the source that it was saved with.
    """
    if config.teacher.is_saved:
        return expand(config.teacher.source, key="teacher.source")
    weights = weights_path(config)
    if weights is not None and ("://" in weights or Path(weights).is_dir()):
        return weights
    return None


def model_folder(location: str) -> Folder:
    """Return the folder of the classifier that a model's source names.

    Raises:
        InputError: if there is none; for a single word, with what else may name a model.
    """
    try:
        return classifier_folder(location)
    except InputError as error:
        if "/" in location:
            raise
        known = 'a model is named by "family:name", such as "dfshield:resnet20", or by its folder'
        raise InputError(f"{error}; {known}") from None


def weights_path(config: Config) -> str | None:
    """Return the file or folder of the teacher's weights, "download", or None."""
    weights = config.teacher.weights
    if weights in (None, "download"):
        return weights
    return expand(weights, key="teacher.weights")


def teacher_identity(config: Config, record: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what the teacher depends on. One that was saved is known by its fingerprint.

    Args:
        config: says what the teacher is.
        record: of the finished or begun stage, or None: what a finished one was made from may have
            gone away since.

    Raises:
        InputError: if there is nothing where it is to come from.
    """
    kept = record["identity"]["teacher"] if record is not None and record["done"] else {}
    saved = _saved_identity(config, kept)
    if saved is not None:
        return identity_of("teacher", teacher=saved)
    teacher, own = config.teacher, keys_of(config.teacher, DEPENDS_ON)
    if teacher.train is not None:
        train = {**keys_of(teacher.train, TRAINING), "data": {"name": teacher.train.data.name}}
        return identity_of("teacher", teacher={**own, "train": train}, seed=config.all_seeds[0])
    return identity_of("teacher", teacher={**own, "weights": _weights_identity(config, kept)})


def _saved_identity(config: Config, kept: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what tells a classifier that was saved, None for one that is built otherwise.

    Once the run folder holds the classifier, the folder that it came from may go away.
    """
    location, known = saved_location(config), "fingerprint" in kept
    if location is None:
        weights = weights_path(config)
        gone = weights not in (None, "download") and not Path(str(weights)).exists()
        return {**kept, "source": config.teacher.source} if known and gone else None
    try:
        folder = model_folder(location)
        saved = describe(folder)
    except DfshieldError as error:
        if known:
            return dict(kept)
        raise type(error)(f"teacher: {error}") from None
    _require_agreement(config.teacher, saved, folder)
    return {"source": saved.architecture.source, "fingerprint": saved.fingerprint}


def _weights_identity(config: Config, kept: Mapping[str, Any]) -> str | None:
    weights = weights_path(config)
    if weights is None:
        return None  # the factory brings its own
    path = Path(weights)
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    if kept:
        # The file has served its purpose: the run folder holds the classifier.
        return str(kept.get("weights"))
    return weights


def _given(teacher: TeacherConfig) -> dict[str, Any]:
    return {
        "input_shape": teacher.input_shape,
        "num_classes": teacher.num_classes,
        "class_names": teacher.class_names,
        "mean": teacher.mean,
        "std": teacher.std,
    }


def _loaded(teacher: TeacherConfig, saved: Description, folder: Folder) -> Classifier:
    """Return the classifier in a folder, whose factory may have to be trusted.

    One that the configuration names itself, with the same options, is.
    """
    architecture = saved.architecture
    named = (teacher.source, teacher.options) == (architecture.source, architecture.options)
    try:
        return load_classifier(folder, trust_python=teacher.trust_python or named)
    except InputError as error:
        raise type(error)(f"teacher: {error}") from None


def _require_agreement(teacher: TeacherConfig, saved: Description, folder: Folder) -> None:
    """Check that nothing is said of a saved classifier that it is not.

    Raises:
        InputError: naming the key and both values.
    """
    architecture = saved.architecture
    if not teacher.is_saved and teacher.source != architecture.source:
        raise InputError(
            f"teacher: source: {teacher.source} contradicts the weights in {folder}, which are "
            f"those of {architecture.source}"
        )
    holds = {
        "options": architecture.options,
        "input_shape": architecture.input_shape,
        "num_classes": architecture.num_classes,
        "class_names": architecture.class_names,
        "mean": saved.mean,
        "std": saved.std,
    }
    for key, value in {"options": teacher.options or None, **_given(teacher)}.items():
        if value is not None and not _same(value, holds[key]):
            pair = [list(one) if isinstance(one, tuple) else one for one in (value, holds[key])]
            raise InputError(
                f"teacher: {key}: {pair[0]} contradicts {folder}, which was saved with {pair[1]}: "
                "leave it out"
            )


def _same(given: Any, held: Any) -> bool:
    """Return whether two values are the same; numbers as float32, one standing for all channels."""
    if not isinstance(held, tuple) or not isinstance(held[0], float):
        return bool(given == held)
    repeated = given * len(held) if len(given) == 1 else given
    return len(repeated) == len(held) and bool(
        np.all(np.array(repeated, np.float32) == np.array(held, np.float32))
    )
