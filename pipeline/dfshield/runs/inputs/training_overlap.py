"""What has to be said of the images that a model is measured on: whether its teacher knew them."""

from dataclasses import replace

from dfshield.classifiers import Classifier
from dfshield.config import Config, DataConfig, expand
from dfshield.datasets import image_hashes
from dfshield.errors import InputError
from dfshield.evaluation import DataInfo
from dfshield.runs.inputs.evaluation_images import RealImages, real_images
from dfshield.runs.inputs.real_data import read_images
from dfshield.runs.watching.events import Observer

_KEY = "teacher.train.data"


def disclosed(config: Config, images: RealImages, observer: Observer) -> RealImages:
    """Return the images with what results must say of them, which the user is told at once.

    Where the teacher was trained in this run, that is how many of them it was trained on, found by
    their content. Training images that have gone away since leave that open.
    """
    info = images.info
    try:
        info = with_overlap(config, images)
    except InputError as error:
        observer.say(f"Not known whether the teacher was trained on these images: {error}")
    for remark in info.remarks:
        observer.say(f"Note: {remark}")
    return replace(images, info=info)


def warn_of_overlap(config: Config, teacher: Classifier, observer: Observer) -> None:
    """Tell, before the teacher is trained, that it will be measured on what it is trained on."""
    if config.evaluation.data is None:
        return
    try:
        images = real_images(config, teacher, num_images=config.evaluation.num_images)
        remarks = with_overlap(config, images).remarks
    except InputError:
        return  # the evaluation says what is wrong with its images
    for remark in remarks:
        observer.say(f"Note: {remark}")


def with_overlap(config: Config, images: RealImages) -> DataInfo:
    """Return what results say of images, with how many of them the teacher was trained on.

    Raises:
        InputError: if its training images cannot be read.
    """
    training, info = config.teacher.train, images.info
    if training is None:
        return info
    measured = image_hashes(images.images)
    trained, chosen = (
        set(image_hashes(read_images(training.data, split=split, key=_KEY)))
        for split in ("train", "val")
    )
    if training.select == "last":
        chosen = set()  # the validation images decided nothing
    trained_on = sum(one in trained for one in measured)
    chosen_on = sum(one in chosen and one not in trained for one in measured)
    total, remarks = len(measured), list(info.remarks)
    if trained_on:
        remarks.append(
            f"measured on training images: {trained_on:,} of the {total:,} are among those that "
            f"the teacher was trained on, so accuracy on new images may be lower; {_advice(config)}"
        )
    if chosen_on:
        remarks.append(
            f"{chosen_on:,} of the {total:,} images chose the teacher's epoch "
            "(teacher.train.select=auc), though it was not trained on them"
        )
    update = {"trained_on": trained_on, "chosen_on": chosen_on, "remarks": tuple(remarks)}
    return info.model_copy(update=update)


def _advice(config: Config) -> str:
    training, data = config.teacher.train, config.evaluation.data
    if training is None or data is None or _source(training.data) != _source(data):
        return "name images in evaluation.data that it was not trained on"
    if data.split == "test":
        return "evaluation.data.split=val takes the tenth that was held back from its training"
    return "evaluation.data.split=val or test takes others, where the data have them"


def _source(data: DataConfig) -> tuple[str, str | None]:
    path = None if data.path is None else expand(data.path, key="path")
    return data.name, path
