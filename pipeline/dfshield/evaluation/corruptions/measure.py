"""Accuracy on corrupted images."""

import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from dfshield.attacks import check_labels, frozen, in_float32
from dfshield.classifiers import Classifier, require_module
from dfshield.errors import InputError
from dfshield.evaluation.accuracy import Images, as_images, data_info, slice_bounds
from dfshield.evaluation.corruptions.base import SEVERITIES, Corruption
from dfshield.evaluation.corruptions.registry import CORRUPTIONS
from dfshield.evaluation.slices import device_of
from dfshield.evaluation.summary import measured_with
from dfshield.results import CorruptionsResult, DataInfo
from dfshield.seeds import torch_generators


def evaluate_corruptions(
    model: nn.Module,
    images: Images | tuple[Tensor, Tensor],
    *,
    corruptions: Sequence[Corruption] | None = None,
    severities: Sequence[int] = SEVERITIES,
    seed: int = 0,
    slice_size: int = 250,
    label: str = "model",
    data: DataInfo | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> CorruptionsResult:
    """Return the accuracy of a model on images with common corruptions.

    The share of corrupted images that are right, as RobustBench counts: also of those that are
    wrong as they are. Neither slices nor their order show in the corrupted images.

    Args:
        model: maps images in [0, 1] to logits; it normalises inside.
        images: an image set, or a pair of images in [0, 1], (n, c, h, w), and labels, (n,).
        corruptions: None for all fifteen.
        severities: from 1 to 5.
        seed: of all draws; those of a model that draws random numbers, too.
        slice_size: images at a time.
        label: what the result calls the model.
        data: what the result says of the images; None: what they say themselves.
        progress: called with the name of every corruption that is done.

    Raises:
        InputError: for images or labels that the model cannot have, or another severity.
    """
    started, taken = time.perf_counter(), as_images(images)
    require_module(model)
    chosen = _all() if corruptions is None else corruptions
    if not len(taken) or not chosen or not severities:
        raise InputError("there is nothing to measure: give images, corruptions and severities")
    share = partial(_accuracy, model, taken, seed=seed, slice_size=slice_size)
    clean, accuracy = share(None, 0), {}
    for corruption in chosen:
        accuracy[corruption.name] = tuple(share(corruption, each) for each in severities)
        progress(corruption.name)
    return CorruptionsResult(
        model=label,
        model_fingerprint=model.fingerprint() if isinstance(model, Classifier) else None,
        data=data or data_info(taken),
        clean=clean,
        severities=tuple(severities),
        accuracy=accuracy,
        seed=seed,
        seconds=time.perf_counter() - started,
        versions=measured_with(),
    )


def _all() -> list[Corruption]:
    return [CORRUPTIONS.make(name) for name in CORRUPTIONS]


def _accuracy(
    model: nn.Module,
    images: Images,
    corruption: Corruption | None,
    severity: int,
    *,
    seed: int,
    slice_size: int,
) -> float:
    """Return the share of images that are right, corrupted or as they are."""
    right, model = 0, in_float32(model)
    device = device_of(model)
    for part in slice_bounds(len(images), slice_size):
        x, y = images.tensors(part)
        if corruption is not None:
            x = corruption(x, severity=severity, seed=seed, first=part.start)
        with frozen(model), torch.no_grad(), torch_generators(seed, device):
            logits: Tensor = model(x.to(device).float())
        y = check_labels(x, y.to(device), logits.shape[1])
        sound = logits.isfinite().all(1)
        right += int(((logits.argmax(1) == y) & sound).sum())
    return right / len(images)
