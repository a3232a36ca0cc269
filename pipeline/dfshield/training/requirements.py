"""What a student and the surrogate data must be for the training to take them."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dfshield.classifiers import (
    are_probabilities,
    float32_logits,
    frozen,
    require_logits,
    require_module,
)
from dfshield.errors import InputError
from dfshield.pixels import as_floats, require_images
from dfshield.seeds import torch_generators
from dfshield.training.trainable import require_trainable

_ASKED = 16
"""Images whose answers are looked at."""
_TOLERANCE = 1e-6
"""How far float32 rounding may carry a pixel out of [0, 1]."""


def require_student(student: nn.Module) -> None:
    """Check that a student is a module with weights.

    Raises:
        InputError: if it is not.
    """
    require_module(student, "student")
    if next(student.parameters(), None) is None:
        raise InputError(f"student: a {type(student).__name__} has no weights")


def _require_optimizable(student: nn.Module, optimizer: Optimizer) -> None:
    """Check that a student has weights to train, and that the optimizer holds some of them.

    Raises:
        InputError: naming what is not so, and what to do.
    """
    require_student(student)
    weights = {id(w): name for name, w in student.named_parameters() if w.requires_grad}
    if not weights:
        raise InputError(
            "student: none of its weights takes a gradient: student.requires_grad_(True) lets them"
        )
    for name, weight in student.named_parameters():
        if weight.dtype in (torch.float16, torch.bfloat16):
            raise InputError(
                f"student: {name} is {str(weight.dtype).removeprefix('torch.')}, but the training "
                "computes in float32: give student.float(), and make the optimizer after that"
            )
    require_kind(optimizer, Optimizer, "optimizer")
    if not any(id(w) in weights for group in optimizer.param_groups for w in group["params"]):
        raise InputError(
            "optimizer: holds no weight of the student that takes a gradient: make it over "
            "student.parameters()"
        )


def require_kind(given: object, kind: type, key: str) -> None:
    """Check that what was given for an argument is of its kind.

    Raises:
        InputError: naming the argument, if it is not.
    """
    if not isinstance(given, kind):
        what = f"the class {given.__name__}" if isinstance(given, type) else type(given).__name__
        raise InputError(f"{key}: must be of the kind {kind.__name__}, but is {what}")


def require_surrogate(images: Tensor, teacher_logits: Tensor, labels: Tensor | None = None) -> None:
    """Check surrogate images, the teacher's logits of them and, if given, their labels.

    Raises:
        InputError: for what is no such tensor, pixels outside their range, or different numbers of
            them.
    """
    require_images(images)
    if len(images) == 0:
        raise InputError("images: there is none")
    if images.is_floating_point():
        low, high = (float(end) for end in torch.aminmax(images))  # one pass: they may be many
        if not (low >= -_TOLERANCE and high <= 1 + _TOLERANCE):
            raise InputError(f"images: must lie in [0, 1], but reach from {low:g} to {high:g}")
    elif images.dtype != torch.uint8:
        raise InputError(f"images: must be floats in [0, 1] or uint8, but are {images.dtype}")
    for key, values, ndim in (("teacher_logits", teacher_logits, 2), ("labels", labels, 1)):
        if values is None:
            continue
        if not isinstance(values, Tensor):
            raise InputError(f"{key}: must be a torch tensor, but is a {type(values).__name__}")
        if values.ndim != ndim or len(values) != len(images):
            raise InputError(
                f"{key}: must be {'(images, classes)' if ndim == 2 else '(images,)'}, but is of "
                f"shape {tuple(values.shape)} for {len(images)} images"
            )
        if values.is_floating_point() != (ndim == 2):
            kind = "floats" if ndim == 2 else "whole numbers"
            raise InputError(f"{key}: must be {kind}, but are {values.dtype}")


def require_labels(labels: Tensor, num_classes: int) -> None:
    """Check that labels are classes of the student.

    Raises:
        InputError: if one is not.
    """
    if int(labels.max()) >= num_classes or int(labels.min()) < 0:
        raise InputError(f"labels: must lie in 0..{num_classes - 1}, the student's classes")


def require_training(
    student: nn.Module,
    optimizer: Optimizer,
    *,
    images: Tensor,
    labels: Tensor,
    teacher_logits: Tensor,
    batch_size: int,
) -> None:
    """Check all that an adversarial training is given; the student is asked in eval mode.

    Raises:
        InputError: naming the argument at fault, and what to do; for a last mini-batch of one image
            on which the student fails in train mode, as BatchNorm1d does.
    """
    require_surrogate(images, teacher_logits, labels)
    if are_probabilities(teacher_logits[:_ASKED]):
        raise InputError("teacher_logits: are probabilities, not logits: give the teacher's logits")
    _require_optimizable(student, optimizer)
    device = next(student.parameters()).device
    with frozen(student), torch.no_grad(), torch_generators(0, device):
        answers = float32_logits(student, as_floats(images[:_ASKED].to(device)))
    require_logits(answers, "student: it")
    if answers.shape[1] != teacher_logits.shape[1]:
        raise InputError(
            f"teacher_logits: are of {teacher_logits.shape[1]} classes, but the student has "
            f"{answers.shape[1]}"
        )
    if batch_size == 1 or len(images) % batch_size == 1:
        try:
            require_trainable(student, as_floats(images[:1].to(device)), name="the student")
        except InputError as error:
            raise InputError(
                f"batch_size: {batch_size} leaves one of {len(images)} images for the last "
                f"mini-batch, but {error}"
            ) from None
