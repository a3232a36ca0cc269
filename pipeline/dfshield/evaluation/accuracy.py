"""Accuracy of a model under an attack on a whole set, slice by slice."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dfshield.attacks import Attack, whole_labels
from dfshield.checks import at_least
from dfshield.classifiers import Classifier, require_module
from dfshield.errors import InputError
from dfshield.evaluation.slices import SliceResult, evaluate_slice
from dfshield.evaluation.summary import summarise
from dfshield.pixels import require_images
from dfshield.results import DataInfo, EvaluationResult
from dfshield.seeds import RngStream, derived_seed


@runtime_checkable
class Images(Protocol):
    """What is evaluated: :class:`dfshield.datasets.ImageSet`, or anything with these members."""

    @property
    def name(self) -> str:
        """The name of the data set."""

    @property
    def split(self) -> str:
        """Which part of it."""

    def __len__(self) -> int: ...

    def tensors(self, index: slice) -> tuple[Tensor, Tensor]:
        """Return images in [0, 1], (n, c, h, w), and labels, (n,), of a slice."""

    def fingerprint(self) -> str:
        """Return a hash over images and labels."""


@dataclass(frozen=True, eq=False)
class _Tensors:
    """A pair of tensors as a data set without a name."""

    x: Float[Tensor, "n c h w"]
    y: Int[Tensor, " n"]
    name: str = "tensors"
    split: str = ""

    def __len__(self) -> int:
        return len(self.x)

    def tensors(self, index: slice) -> tuple[Tensor, Tensor]:
        return self.x[index], self.y[index]

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for tensor in (self.x, self.y):
            tensor = tensor.detach().cpu().contiguous()
            array = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()


def data_info(images: Images) -> DataInfo:
    """Return what results say of the images that were measured on."""
    return DataInfo(
        name=images.name,
        split=images.split,
        fingerprint=images.fingerprint(),
        num_images=len(images),
    )


def as_images(images: Images | tuple[Tensor, Tensor]) -> Images:
    """Return a pair of images in [0, 1], (n, c, h, w), and labels, (n,), as an image set.

    Raises:
        InputError: for what is neither, or if there are not as many labels as images.
    """
    if isinstance(images, Images):
        return images
    if not isinstance(images, tuple | list) or len(images) != 2:
        raise InputError(
            "images: must be an image set or a pair of tensors (images, labels), but is a "
            f"{type(images).__name__}"
        )
    x, y = images
    require_images(x)
    y = whole_labels(y)
    if len(x) != len(y):
        raise InputError(f"there are {len(x)} images but {len(y)} labels")
    return _Tensors(x, y)


def slice_bounds(num_images: int, slice_size: int) -> list[slice]:
    """Return the slices of a set: ``slice_size`` images each, the last one maybe fewer.

    Raises:
        InputError: for a size below 1.
    """
    at_least(1, slice_size, "slice_size")
    return [
        slice(start, min(start + slice_size, num_images))
        for start in range(0, num_images, slice_size)
    ]


def evaluate(
    model: nn.Module,
    images: Images | tuple[Tensor, Tensor],
    attack: Attack | None,
    *,
    slice_size: int = 250,
    seed: int = 0,
    label: str = "model",
    progress: Callable[[int, int], None] | None = None,
) -> EvaluationResult:
    """Return the accuracy of ``model`` under ``attack``, with interval, floor and histogram.

    Slice i is attacked with the i-th seed derived from ``seed``, so that the result does not depend
    on who evaluates which slice, or in which order.

    Args:
        model: maps images in [0, 1] to logits; it normalises inside.
        images: an image set, or a pair of images in [0, 1], (n, c, h, w), and labels, (n,).
        attack: None evaluates the clean images.
        slice_size: images attacked at once; part of what the result depends on.
        seed: of the whole evaluation.
        label: what the result calls the model.
        progress: called with the number of images done and of all images after every slice.

    Raises:
        InputError: for images or labels that the model cannot have.
    """
    data = as_images(images)
    slices = evaluate_slices(
        model, data, attack, slice_size=slice_size, seed=seed, progress=progress
    )
    return summarise(
        slices,
        attack=attack,
        data=data_info(data),
        model=label,
        model_fingerprint=model.fingerprint() if isinstance(model, Classifier) else None,
        seed=seed,
        slice_size=slice_size,
    )


def evaluate_slices(
    model: nn.Module,
    images: Images,
    attack: Attack | None,
    *,
    slice_size: int = 250,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[SliceResult]:
    """Return what became of every image, slice by slice; see `evaluate` for the arguments.

    Raises:
        InputError: for images or labels that the model cannot have.
    """
    require_module(model)
    if attack is not None and not isinstance(attack, Attack):
        raise InputError(
            f"attack: must be an Attack such as dfshield.attacks.PGD(eps=0.03), but is a "
            f"{type(attack).__name__}"
        )
    bounds = slice_bounds(len(images), slice_size)
    if not bounds:
        raise InputError("there is no image to evaluate")
    slices = []
    for index, part in enumerate(bounds):
        x, y = images.tensors(part)
        slice_seed = derived_seed(seed, RngStream.EVALUATION, index)
        slices.append(evaluate_slice(model, x, y, attack, seed=slice_seed))
        if progress is not None:
            progress(part.stop, len(images))
    return slices
