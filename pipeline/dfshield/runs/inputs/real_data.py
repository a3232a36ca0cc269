"""Real images made to fit a classifier, or refused: the only door to them in a run."""

from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from dfshield.config import DataConfig, expand
from dfshield.datasets import ImageSet, load_images
from dfshield.errors import InputError
from dfshield.runs.inputs.class_matching import match_classes

DataSection = TypeVar("DataSection", bound=DataConfig)


@runtime_checkable
class Takes(Protocol):
    """What is known of what a classifier takes and gives: itself, or its architecture."""

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(c, h, w) of one image."""

    @property
    def num_classes(self) -> int:
        """Number of classes."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the logits."""


def read_images(data: DataConfig, *, split: str, key: str) -> ImageSet:
    """Return a split of the real data set that a section of the configuration names.

    Args:
        data: the section.
        split: train, val or test.
        key: the section's name, for errors.

    Raises:
        InputError: if the data are unknown, missing or damaged.
    """
    path = None if data.path is None else expand(data.path, key=f"{key}.path")
    try:
        return load_images(data.name, split=split, path=path)
    except InputError as error:
        raise InputError(f"{key}: {error}") from None


def require_there(data: DataConfig, *, key: str) -> None:
    """Check that the path of a section exists, without reading an image.

    Raises:
        InputError: naming the key.
    """
    if data.path is not None:
        path = Path(expand(data.path, key=f"{key}.path"))
        if not path.exists():
            raise InputError(f"{key}.path: {path}: no such file or folder")


def located(data: DataSection, *, key: str) -> DataSection:
    """Return the section with a path that means the same in another process of another folder."""
    if data.path is None:
        return data
    path = Path(expand(data.path, key=f"{key}.path")).expanduser().absolute()
    return data.model_copy(update={"path": str(path)})


def fitted(images: ImageSet, classifier: Takes, *, key: str) -> ImageSet:
    """Return the images with the classifier's number of channels and its class numbers.

    Args:
        images: a real data set.
        classifier: what they are for.
        key: the configuration's section that named them, for errors.

    Raises:
        InputError: if size or classes differ.
    """
    logits = match_classes(images, classifier.class_names, key=key).logits
    channels, *size = classifier.input_shape
    if images.input_shape[1:] != tuple(size):
        height, width = images.input_shape[1:]
        raise InputError(
            f"{key}: the images of {images.name} are {height}x{width}, "
            f"the classifier takes {size[0]}x{size[1]}; sizes are never changed silently"
        )
    return images.with_classes(classifier.class_names, logits).with_channels(channels)
