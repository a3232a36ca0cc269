"""The real images that models are measured on, and which of their split they are."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dfshield.config import Config, EvaluationData
from dfshield.datasets import ImageSet
from dfshield.datasets.images import stratified_index
from dfshield.errors import InputError
from dfshield.evaluation import DataInfo
from dfshield.runs.inputs.class_matching import match_classes, unnamed
from dfshield.runs.inputs.real_data import Takes, fitted, located, read_images, require_there
from dfshield.runs.inputs.teacher_source import saved_location


@dataclass(frozen=True, eq=False)
class RealImages:
    """Images to measure on.

    Attributes:
        images: themselves.
        index: their places in the split.
        info: what results say of them.
    """

    images: ImageSet
    index: npt.NDArray[np.int64]
    info: DataInfo


def require_evaluation_data(config: Config) -> EvaluationData:
    """Return the section that names the test images, without reading one.

    Raises:
        InputError: if it is missing, or its path does not exist.
    """
    data = config.evaluation.data
    if data is None:
        raise InputError(
            "evaluation.data: no real images are named, and surrogate images cannot stand in for "
            "them: add evaluation.data.name=folder evaluation.data.path=PATH, or another data set"
        )
    require_there(data, key="evaluation.data")
    return data


def real_images(config: Config, classifier: Takes, *, num_images: int | None) -> RealImages:
    """Return the test images as the configuration asks for them.

    Args:
        config: names the data set; its first seed draws the sample.
        classifier: what they are for.
        num_images: size of a stratified sample; None takes all images.

    Raises:
        InputError: if they are not configured, missing, or do not fit the classifier.
    """
    data, key = require_evaluation_data(config), "evaluation.data"
    stored = read_images(data, split=data.split, key=key)
    remark = match_classes(stored, _class_names(config, classifier), key=key).remark
    whole = fitted(stored, classifier, key=key)
    images, index, seed = whole, np.arange(len(whole)), config.all_seeds[0]
    sampled = num_images is not None and num_images < len(whole)
    if num_images is not None and sampled:
        images = whole.stratified(num_images, seed=seed)
        index = stratified_index(whole.labels, num_images, np.random.default_rng(seed))
    info = DataInfo(
        name=images.name,
        split=images.split,
        fingerprint=images.fingerprint(),
        num_images=len(images),
        sampled_from=len(whole) if sampled else None,
        sample_seed=seed if sampled else None,
        remarks=images.remarks if remark is None else (remark, *images.remarks),
    )
    return RealImages(images, index, info)


def _class_names(config: Config, classifier: Takes) -> tuple[str, ...]:
    """Return what is known of a classifier's classes: names that it has from these images are not.

    Those of a model without a run are, unless its configuration gives them, or its folder.
    """
    teacher = config.teacher
    if teacher.class_names is not None:
        return teacher.class_names
    known = teacher.train is not None or saved_location(config) is not None
    return classifier.class_names if known else unnamed(classifier.num_classes)


def located_images(config: Config, classifier: Takes) -> Config:
    """Return the configuration such that it gives the same test images in another place.

    The path of the images is made whole, and what is known of the classes is written down.
    """
    data = located(require_evaluation_data(config), key="evaluation.data")
    evaluation = config.evaluation.model_copy(update={"data": data})
    names = _class_names(config, classifier)
    teacher = config.teacher.model_copy(update={"class_names": names})
    return config.model_copy(update={"evaluation": evaluation, "teacher": teacher})
