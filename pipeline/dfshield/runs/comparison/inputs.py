"""What sets are compared with and in: real images that fit them, and a space of features."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from dfshield.classifiers import Classifier
from dfshield.config import VariantConfig
from dfshield.datasets import ImageSet
from dfshield.datasets.images import stratified_index
from dfshield.diversity.features import FEATURE_SPACES, FeatureSpace
from dfshield.errors import InputError
from dfshield.runs.inputs.classifier_folder import classifier_folder, load_classifier
from dfshield.runs.inputs.surrogate_sets import SurrogateSet, run_of
from dfshield.runs.names import TEACHER
from dfshield.runs.watching.events import Observer
from dfshield.runs.work.features import features_of
from dfshield.seeds import RngStream, generator
from dfshield.storage import Folder, SurrogateTensors

MODEL = "model"
"""The option of a feature space that takes the classifier."""


@dataclass(frozen=True)
class Comparison:
    """Sets, real images and the space of features that they are compared in.

    Attributes:
        sets: all of one image shape.
        real: the real images, of the shape of the sets.
        space: see `FeatureSpace`.
        teacher: the classifier that the space looks into, if it does.
        num_images: how many images of each, real or of a set, are taken at most; None: all.
        seed: of what is drawn.
        observer: is shown the progress.
    """

    sets: Sequence[SurrogateSet]
    real: ImageSet
    space: FeatureSpace
    teacher: Classifier | None
    num_images: int | None
    seed: int
    observer: Observer

    @property
    def device(self) -> torch.device:
        """Where features are computed and compared."""
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def settings(self) -> dict[str, Any]:
        """Name and options of the space, ready for JSON; its classifier by fingerprint."""
        settings = FEATURE_SPACES.describe(self.space)
        return settings if self.teacher is None else {**settings, MODEL: self.teacher.fingerprint()}

    def real_features(self) -> Float[Tensor, "n d"]:
        """Return the features of the real images."""
        images, _ = self.real.tensors()
        return self._features(images, f"Features of {self.real.name}")

    def features(self, of: SurrogateSet) -> tuple[Float[Tensor, "m d"], Int[Tensor, " m"]]:
        """Return features and labels of a set, or of a sample of it in proportion of its classes.

        Raises:
            PartError: if a part of the set does not verify.
        """
        data = sampled(of.data.load(), self.num_images, seed=self.seed)
        return self._features(data.images, f"Features of {of.name}"), data.labels

    def _features(self, images: Shaped[Tensor, "n c h w"], title: str) -> Float[Tensor, "n d"]:
        return features_of(
            images, self.space, device=self.device, observer=self.observer, title=title
        )


def sampled(data: SurrogateTensors, num_images: int | None, *, seed: int) -> SurrogateTensors:
    """Return a sample of a set in proportion of its classes; all of it where it has no more."""
    if num_images is None or num_images >= len(data):
        return data
    rng = generator(seed, RngStream.DIVERSITY)
    index = torch.from_numpy(stratified_index(data.labels.numpy(), num_images, rng))
    return SurrogateTensors(data.images[index], data.labels[index], data.teacher_logits[index])


def comparison(
    sets: Sequence[SurrogateSet],
    real: ImageSet,
    features: VariantConfig,
    *,
    teacher: str | None,
    trust_python: bool,
    num_images: int | None,
    seed: int,
    observer: Observer,
) -> Comparison:
    """Return what is compared, after checking that it fits.

    Args:
        sets: of one image shape.
        real: real images.
        features: the space and its options.
        teacher: folder of the classifier that the space looks into, or a run, which stands for its
            teacher; None: the teacher of the first set that lies in a run.
        trust_python: whether the factory of the classifier may be called, if it has one.
        num_images: see `Comparison`.
        seed: see `Comparison`.
        observer: see `Comparison`.

    Raises:
        InputError: for images of another size or more channels, an unknown space or option, or a
            classifier that is missing or takes other images.
    """
    fitting = _fitting(real, sets[0])
    if num_images is not None:
        fitting = fitting.stratified(num_images, seed=seed)
    model = None
    if _looks_into_a_model(features):
        model = _classifier(sets, teacher, trust_python=trust_python)
    elif teacher is not None:
        raise InputError(f"--teacher: the features {features.name!r} need none: leave it out")
    space = _space(features, model)
    made = Comparison(sets, fitting, space, model, num_images, seed, observer)
    if model is not None:
        model.to(made.device)
    return made


def _looks_into_a_model(features: VariantConfig) -> bool:
    if MODEL in features.options:
        raise InputError("--features: model: is named by --teacher")
    try:
        return any(option.name == MODEL for option in FEATURE_SPACES.options(features.name))
    except InputError as error:
        raise InputError(f"--features: {error}") from None


def _space(features: VariantConfig, model: Classifier | None) -> FeatureSpace:
    supplied = {} if model is None else {MODEL: model}
    try:
        return FEATURE_SPACES.make(features.name, **{**features.options, **supplied})
    except InputError as error:
        raise InputError(f"--features: {error}") from None


def _fitting(real: ImageSet, first: SurrogateSet) -> ImageSet:
    channels, *size = first.manifest.image_shape
    if real.input_shape[1:] != tuple(size):
        height, width = real.input_shape[1:]
        raise InputError(
            f"--real: the images of {real.name} are {height}x{width}, those of {first.name} are "
            f"{size[0]}x{size[1]}; sizes are never changed silently"
        )
    try:
        return real.with_channels(channels)
    except InputError as error:
        raise InputError(f"--real: {error}") from None


def _classifier(
    sets: Sequence[SurrogateSet], location: str | None, *, trust_python: bool
) -> Classifier:
    folder = _teacher_folder(sets, location)
    try:
        model = load_classifier(folder, trust_python=trust_python)
    except InputError as error:
        raise type(error)(f"--teacher: {error}") from None
    shape = sets[0].manifest.image_shape
    if model.input_shape != shape:
        raise InputError(
            f"--teacher: {folder} takes images of shape {model.input_shape}, those of "
            f"{sets[0].name} are {shape} (channels, height, width)"
        )
    return model


def _teacher_folder(sets: Sequence[SurrogateSet], location: str | None) -> Folder:
    runs = [Folder.at(location)] if location is not None else []
    if location is None:
        runs = [run for each in sets if (run := run_of(each.data.folder)) is not None]
    for run in runs:
        if run.child(TEACHER).exists(""):
            return run.child(TEACHER)
    if location is None:
        raise InputError(
            "--teacher: no set lies in a run with a teacher: name a run or the folder of a "
            "classifier, or compare with --features pixels"
        )
    try:
        return classifier_folder(location)
    except InputError as error:
        raise InputError(f"--teacher: {error}") from None


def drawn_points(size: int, most: int, *, seed: int) -> np.ndarray:
    """Return the sorted places of at most so many of ``size`` points, drawn at random."""
    rng = generator(seed, RngStream.DIVERSITY)
    return np.sort(rng.permutation(size)[:most])
