"""One slice of a test set under one attack: the unit that workers share out among themselves."""

import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor, nn

from dfshield.attacks import (
    RANGE_TOLERANCE,
    Attack,
    check_images,
    check_labels,
    frozen,
    perturbation_norm,
)
from dfshield.errors import DfshieldError, DfshieldWarning, InputError

NON_FINITE = -1
"""The prediction of an image whose logits are not finite."""


@dataclass(frozen=True)
class SliceResult:
    """What became of the images of one slice, in their order.

    ``adversarial_predictions`` come from a fresh forward pass over the images that the attack
    returned; without an attack they equal ``clean_predictions``. A prediction of -1 stands for
    logits, or an adversarial image, that are not finite.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    labels: tuple[int, ...]
    clean_predictions: tuple[int, ...]
    adversarial_predictions: tuple[int, ...]
    num_classes: int
    max_perturbation: float
    notes: tuple[str, ...]
    seconds: float

    def to_json(self) -> dict[str, object]:
        """Return the fields as values that ``json`` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> "SliceResult":
        """Return the slice that :meth:`to_json` described.

        Raises:
            InputError: when a field is missing, unknown or of another type.
        """
        try:
            return TypeAdapter(cls).validate_python(values)
        except ValidationError as error:
            raise InputError(f"not the record of a slice: {first_problem(error)}") from None


def first_problem(error: ValidationError) -> str:
    """Return the first problem of a validation in one line: the key and what is wrong with it."""
    problem = error.errors()[0]
    return f"{'.'.join(map(str, problem['loc'])) or 'content'}: {problem['msg']}"


def evaluate_slice(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    attack: Attack | None,
    *,
    seed: int,
    attacked: nn.Module | None = None,
) -> SliceResult:
    """Attack one slice and predict the images that came back.

    All images are attacked, whether right or wrong when clean; an image is *robust* when both its
    clean and its adversarial prediction are right. Images whose clean logits are not finite are
    not attacked and not robust. The result depends on the arguments alone; the model's mode and
    every global random generator stay as they are.

    Args:
        model: maps images in [0, 1] to logits, on any device.
        x: images in [0, 1].
        y: labels in 0..C-1.
        attack: None evaluates the clean images.
        seed: of the attack on this slice.
        attacked: what the attack is given in place of the model: the same, computed faster. What
            counts is what the model itself predicts.

    Raises:
        InputError: for images or labels that the model cannot have.
        DfshieldError: when the attack returns images outside its ball or outside [0, 1].
    """
    started = time.perf_counter()
    device = _device(model)
    x, y = check_images(model, x).to(device), y.to(device)
    notes: list[str] = []
    max_perturbation = 0.0
    with frozen(model):
        clean, num_classes = _predict(model, x)
        check_labels(x, y, num_classes)
        adversarial = clean.clone()
        sound = clean != NON_FINITE
        if attack is not None and bool(sound.any()):
            x_adv, notes = _run(attack, attacked or model, x[sound], y[sound], seed)
            max_perturbation = _check_bounds(attack, x_adv, x[sound])
            adversarial[sound], _ = _predict(model, x_adv)
    return SliceResult(
        labels=tuple(y.tolist()),
        clean_predictions=tuple(clean.tolist()),
        adversarial_predictions=tuple(adversarial.tolist()),
        num_classes=num_classes,
        max_perturbation=max_perturbation,
        notes=tuple(notes),
        seconds=time.perf_counter() - started,
    )


def _device(model: nn.Module) -> torch.device:
    for tensor in chain(model.parameters(), model.buffers()):
        return tensor.device
    return torch.device("cpu")


def _predict(model: nn.Module, x: Float[Tensor, "n c h w"]) -> tuple[Int[Tensor, " n"], int]:
    """Return the predicted classes (-1: image or logits are not finite) and the class count."""
    with torch.no_grad():
        logits = model(x)
    if logits.ndim != 2 or len(logits) != len(x):
        raise InputError(
            f"the model must return logits of shape (images, classes) = ({len(x)}, C), "
            f"but returned {tuple(logits.shape)}"
        )
    finite = logits.isfinite().all(1) & x.flatten(1).isfinite().all(1)
    return logits.argmax(1).where(finite, NON_FINITE), logits.shape[1]


def _run(
    attack: Attack,
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    seed: int,
) -> tuple[Float[Tensor, "n c h w"], list[str]]:
    """Return the attacked images and what the attack warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DfshieldWarning)
        x_adv = attack(model, x, y, seed=seed)
    notes: list[str] = []
    for warning in caught:
        if issubclass(warning.category, DfshieldWarning):
            notes.append(str(warning.message))
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    return x_adv, list(dict.fromkeys(notes))


def _check_bounds(
    attack: Attack, x_adv: Float[Tensor, "n c h w"], x: Float[Tensor, "n c h w"]
) -> float:
    """Return the largest perturbation among finite images, having checked ball and range."""
    finite = x_adv.flatten(1).isfinite().all(1)
    if not bool(finite.any()):
        return 0.0
    x_adv, x = x_adv[finite], x[finite]
    largest = float(perturbation_norm(x_adv.double() - x.double(), attack.norm).max())
    if largest > attack.eps * (1 + RANGE_TOLERANCE) + RANGE_TOLERANCE:
        raise DfshieldError(
            f"{attack.label} left its ball: a perturbation of {attack.norm} norm {largest:g} "
            f"where eps is {attack.eps:g}"
        )
    low, high = float(x_adv.min()), float(x_adv.max())
    if low < 0 or high > 1:
        raise DfshieldError(f"{attack.label} left [0, 1]: pixels from {low:g} to {high:g}")
    return largest
