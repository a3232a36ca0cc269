"""What a student is trained on: surrogate images, its own or another set's, or a reference's."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dfshield.classifiers import Classifier
from dfshield.config import Config, check_group, check_last_batch, expand
from dfshield.errors import InputError
from dfshield.results import NOT_DATA_FREE
from dfshield.runs.context import RunContext
from dfshield.runs.driver.synthesis_plan import synthesis_identity
from dfshield.runs.inputs.classifier_folder import describe
from dfshield.runs.inputs.evaluation_images import real_images
from dfshield.runs.inputs.real_data import Takes
from dfshield.runs.inputs.reference_images import (
    KEY,
    ReferenceSet,
    reference_set,
    require_unseen,
)
from dfshield.runs.records import nothing_yet, read_record
from dfshield.storage import SurrogateDataset


@dataclass(frozen=True)
class TrainingSource:
    """What a student is trained on.

    Attributes:
        identity: of the images, as a part of the student's.
        num_images: how many.
        data: the folder of the surrogate data set; None for a reference.
        reference: the real images of a reference; None without.
    """

    identity: Mapping[str, Any]
    num_images: int
    data: str | None = None
    reference: ReferenceSet | None = None


def training_source(context: RunContext, teacher: Classifier, seed: int) -> TrainingSource:
    """Return what a student is trained on, read as far as its identity asks.

    Raises:
        InputError: if it is missing, or does not fit the teacher or the test images.
    """
    config = context.config
    if config.training.images is None:
        dataset = _dataset(context, teacher.fingerprint(), seed)
        num_images = images_of_training(config, dataset)
        identity = _surrogate(config, dataset.manifest.identity, num_images)
        return TrainingSource(identity, num_images, dataset.folder.uri)
    reference = reference_images(config, teacher)
    for remark in (*reference.images.remarks, *reference.remarks):
        context.observer.say(f"Note: {KEY}: {remark}")
    context.observer.say(f"Warning: {NOT_DATA_FREE}")
    identity = _reference(config, reference.images.fingerprint())
    return TrainingSource(identity, len(reference), reference=reference)


def reference_images(config: Config, teacher: Takes) -> ReferenceSet:
    """Return the real images of a reference, made to fit the teacher.

    Raises:
        InputError: if they are missing, do not fit, are too few for the mini-batches, or are those
            that are measured on.
    """
    assert config.training.images is not None
    reference = reference_set(config.training.images, teacher)
    _check_sizes(config, len(reference))
    if config.evaluation.data is not None:
        measured = real_images(config, teacher, num_images=config.evaluation.num_images)
        require_unseen(config, measured.images)
    return reference


def images_identity(context: RunContext, teacher_fingerprint: str, seed: int) -> dict[str, Any]:
    """Return what of a student's identity tells the images that it is trained on.

    Raises:
        InputError: if there is no data set where one is named.
    """
    config = context.config
    if config.training.images is not None:
        return _reference(config, _known_reference(context, seed))
    if config.training.data is None and "synthesize" not in context.layout.elsewhere:
        surrogate = synthesis_identity(config, teacher_fingerprint, seed)
        return _surrogate(config, surrogate, config.synthesis.num_images)
    dataset = _dataset(context, teacher_fingerprint, seed)
    return _surrogate(config, dataset.manifest.identity, images_of_training(config, dataset))


def _surrogate(config: Config, surrogate: Mapping[str, Any], num_images: int) -> dict[str, Any]:
    synthesis = {"num_images": num_images}
    if config.training.select == "holdout":
        synthesis["num_holdout"] = config.synthesis.num_holdout
    return {"surrogate": dict(surrogate), "synthesis": synthesis}


def _reference(config: Config, fingerprint: str) -> dict[str, Any]:
    """Return what tells the real images of a reference: by their content, not by their place."""
    reference = config.training.images
    assert reference is not None
    data = {"name": reference.data.name, "split": reference.data.split}
    return {"images": {**data, "labels": reference.labels, "fingerprint": fingerprint}}


def _known_reference(context: RunContext, seed: int) -> str:
    """Return the fingerprint of a reference's images: of a student that is done, from its record.

    The images may have gone away since.
    """
    record = read_record(context.layout.student(seed))
    known = record["identity"].get("images", {}) if record is not None and record["done"] else {}
    if "fingerprint" in known:
        return str(known["fingerprint"])
    reference = context.config.training.images
    assert reference is not None
    architecture = describe(context.layout.teacher).architecture
    return reference_set(reference, architecture).images.fingerprint()


def _dataset(context: RunContext, teacher_fingerprint: str, seed: int) -> SurrogateDataset:
    elsewhere = context.config.training.data
    if elsewhere is not None:
        dataset = SurrogateDataset.open(expand(elsewhere, key="training.data"))
    else:
        folder = context.layout.synthetic(seed)
        if read_record(folder) is None:
            raise nothing_yet(folder, "synthesize")
        dataset = SurrogateDataset.open(folder)
    if dataset.manifest.teacher_fingerprint != teacher_fingerprint:
        raise InputError(f"{dataset.folder} was made from another teacher than this run's")
    missing = {part.path for part in dataset.missing()} - context.refs.get(seed, {}).keys()
    if missing:
        raise InputError(
            f"{dataset.folder} is not complete ({len(missing)} of "
            f"{len(dataset.manifest.parts)} parts are missing): run `dfshield synthesize` first"
        )
    return dataset


def images_of_training(config: Config, dataset: SurrogateDataset) -> int:
    """Return how many images of the data set a student is trained on.

    Raises:
        InputError: naming the key, if the data set has too few, or too few for the mini-batches.
    """
    planned = sum(part.num_images for part in dataset.manifest.split("data"))
    wanted = planned if config.training.data else config.synthesis.num_images
    if wanted > planned:
        raise InputError(
            f"synthesis.num_images: {wanted} wanted, {dataset.folder} holds {planned}: "
            "run `dfshield synthesize` first"
        )
    _check_sizes(config, wanted)
    return wanted


def _check_sizes(config: Config, num_images: int) -> None:
    batch_size = config.training.batch_size
    try:
        check_group(config.training.gradrefine.num_batches, -(-num_images // batch_size))
        check_last_batch(batch_size, num_images)
    except ValueError as error:
        raise InputError(str(error)) from None
