"""The images and labels that every attack takes, and what is said of others."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dfshield.classifiers import Classifier, require_module
from dfshield.classifiers.logits import dtype_of
from dfshield.errors import InputError
from dfshield.pixels import require_images

RANGE_TOLERANCE = 1e-6
"""How far float32 rounding may carry a pixel out of [0, 1] or a perturbation out of its ball."""


def check_shape(model: nn.Module, x: Float[Tensor, "n c h w"]) -> None:
    """Check the images' shape against a `Classifier`'s ``input_shape``.

    Raises:
        InputError: if they differ, or for what is no module or no tensor of images.
    """
    require_module(model)
    require_images(x)
    expected = model.input_shape if isinstance(model, Classifier) else tuple(x.shape[1:])
    if tuple(x.shape[1:]) != expected:
        raise InputError(
            f"the model takes images of shape {expected} (channels, height, width), "
            f"but these have {tuple(x.shape[1:])}"
        )


def check_images(model: nn.Module, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Return a float32 copy of ``x`` clipped to [0, 1], after checking that rounding alone is cut.

    Double images for a model with double weights stay double. The copy is detached and contiguous,
    also where ``x`` is not (images stored channels last): pyautoattack takes no others.

    Raises:
        InputError: for pixels outside [0, 1] by more than 1e-6, NaN pixels, no image, or a shape
            that differs from a `Classifier`'s ``input_shape``, whole numbers.
    """
    check_shape(model, x)
    if len(x) == 0:
        raise InputError("there is no image to work on")
    if not x.is_floating_point():
        raise InputError(f"images must be floats in [0, 1], but these are {x.dtype}: divide by 255")
    low, high = float(x.min()), float(x.max())
    if not (low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE):
        raise InputError(
            f"images must lie in [0, 1], but these reach from {low:g} to {high:g}: divide uint8 "
            "pixels by 255 and leave the normalisation to the model"
        )
    double = x.dtype == dtype_of(model) == torch.float64
    return (x if double else x.float()).detach().clamp(0, 1).contiguous()


def whole_labels(y: Tensor) -> Int[Tensor, " n"]:
    """Return labels of any integer type as int64.

    Raises:
        InputError: for those of another type or shape.
    """
    if not isinstance(y, Tensor):
        remedy = ": torch.from_numpy makes one" if isinstance(y, np.ndarray) else ""
        raise InputError(
            f"labels: must be a torch tensor (images,), but are a {type(y).__name__}{remedy}"
        )
    if y.ndim != 1 or y.is_floating_point():
        raise InputError(
            f"labels must be whole numbers of shape (images,), but these are {y.dtype} of shape "
            f"{tuple(y.shape)}"
        )
    return y.long()


def check_labels(x: Tensor, y: Tensor, num_classes: int) -> Int[Tensor, " n"]:
    """Return the labels as int64, after checking that there is one of the classes per image.

    Raises:
        InputError: naming the label, the counts, the shape or the type at fault.
    """
    y = whole_labels(y)
    if len(y) != len(x):
        raise InputError(f"there are {len(x)} images but {len(y)} labels")
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= num_classes:
        raise InputError(
            f"labels must lie in 0..{num_classes - 1} (the model has {num_classes} classes), "
            f"but these reach from {low} to {high}"
        )
    return y
