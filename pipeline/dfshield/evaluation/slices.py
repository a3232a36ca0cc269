"""One slice of a test set under one attack: the unit that workers share out among themselves."""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int, Integer
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor, nn

from dfshield.attacks import (
    RANGE_TOLERANCE,
    Attack,
    Outcome,
    check_images,
    check_labels,
    frozen,
    in_float32,
    perturbation_norm,
)
from dfshield.brief import Brief
from dfshield.classifiers import (
    PROBABILITIES,
    are_probabilities,
    require_module,
    same_logits,
)
from dfshield.errors import DfshieldError, DfshieldWarning, InputError
from dfshield.results import first_problem
from dfshield.seeds import torch_generators

NON_FINITE = -1
"""The prediction of an image whose logits are not finite."""


@dataclass(frozen=True, repr=False)
class SliceResult(Brief):
    """What became of the images of one slice, in their order.

    ``adversarial_predictions`` and ``adversarial_margins`` come from a fresh forward pass over the
    images that the attack returned; without an attack they equal the clean ones. A prediction of -1
    stands for logits, or an adversarial image, that are not finite; its margin is None.

    Attributes:
        labels: of the images.
        clean_predictions: classes, or -1.
        adversarial_predictions: classes, or -1.
        clean_margins: ``z_y - max_{k != y} z_k`` of the logits z, above 0 where right.
        adversarial_margins: the same under attack.
        distances: size of every perturbation in the attack's norm; None where it is not finite.
        queries: how often the model was asked about each image: counted by the attack where it
            counts, else all that it asked shared out evenly among the images it was given; 0 for
            one that was not attacked.
        randomised: whether the model answered the same images differently when asked twice.
        num_classes: of the model.
        max_perturbation: the largest finite distance.
        notes: what the attack warned of.
        seconds: of computation.
        probabilities: whether the clean answers are probabilities instead of logits; None in
            slices of older versions, which did not look.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    labels: tuple[int, ...]
    clean_predictions: tuple[int, ...]
    adversarial_predictions: tuple[int, ...]
    clean_margins: tuple[float | None, ...]
    adversarial_margins: tuple[float | None, ...]
    distances: tuple[float | None, ...]
    queries: tuple[float, ...]
    randomised: bool
    num_classes: int
    max_perturbation: float
    notes: tuple[str, ...]
    seconds: float
    probabilities: bool | None = None

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


def evaluate_slice(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Integer[Tensor, " n"],
    attack: Attack | None,
    *,
    seed: int,
    keep: Callable[[Float[Tensor, "n c h w"]], None] | None = None,
    attacked: nn.Module | None = None,
) -> SliceResult:
    """Attack one slice and predict the images that came back.

    All images are attacked, whether right or wrong when clean; an image is *robust* when both its
    clean and its adversarial prediction are right. Images whose clean logits are not finite are
    not attacked and not robust. The result depends on the arguments alone, also for a model that
    draws random numbers; the model's mode and every global random generator stay as they are.

    Args:
        model: maps images in [0, 1] to logits, on any device, in any precision.
        x: images in [0, 1].
        y: labels in 0..C-1.
        attack: None evaluates the clean images.
        seed: of the attack on this slice, and of what the model draws.
        keep: takes the adversarial images, in the order of ``x``; those that were not attacked are
            as they were.
        attacked: what the attack is given in place of the model: the same, computed faster. What
            counts is what the model itself predicts.

    Raises:
        InputError: for images or labels that the model cannot have.
        DfshieldError: when the attack returns images outside its ball or outside [0, 1].
    """
    started = time.perf_counter()
    require_module(model)
    device = _device(model)
    x, y = check_images(model, x).to(device), y.to(device)
    model = in_float32(model)
    with frozen(model), torch_generators(seed, device):
        clean, again = _logits(model, x), _logits(model, x)
        y = check_labels(x, y, clean.shape[1])
        sound = _predictions(clean, x) != NON_FINITE
        x_adv, adversarial, notes = x.clone(), clean.clone(), list[str]()
        queries = torch.zeros(len(x), dtype=torch.float64)
        if attack is not None and bool(sound.any()):
            with count_queries(attacked or model) as counted:
                outcome, notes = _run(attack, attacked or model, x[sound], y[sound], seed)
            x_adv[sound] = outcome.images
            evenly = torch.full((len(outcome.images),), counted.images / len(outcome.images))
            asked = evenly if outcome.queries is None else outcome.queries.cpu()
            queries[sound.cpu()] = asked.double()
            _check_bounds(attack, x_adv[sound], x[sound])
            adversarial[sound] = _logits(model, x_adv[sound])
    if keep is not None:
        keep(x_adv)
    distances = _finite_or_none(
        perturbation_norm(x_adv.double() - x.double(), attack.norm if attack else "linf")
    )
    return SliceResult(
        labels=tuple(y.tolist()),
        clean_predictions=tuple(_predictions(clean, x).tolist()),
        adversarial_predictions=tuple(_predictions(adversarial, x_adv).tolist()),
        clean_margins=_finite_or_none(margins(clean, y)),
        adversarial_margins=_finite_or_none(margins(adversarial, y)),
        distances=distances,
        queries=tuple(queries.tolist()),
        randomised=not same_logits(clean, again),
        num_classes=clean.shape[1],
        max_perturbation=max((size for size in distances if size is not None), default=0.0),
        notes=tuple(notes),
        seconds=time.perf_counter() - started,
        probabilities=are_probabilities(clean),
    )


def margins(logits: Float[Tensor, "n k"], y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return ``z_y - max_{k != y} z_k`` of every image, NaN where a logit is not finite."""
    others = logits.scatter(1, y[:, None], -torch.inf).amax(1)
    margin = logits.gather(1, y[:, None]).squeeze(1) - others
    return margin.where(logits.isfinite().all(1), torch.nan)


@dataclass
class Queries:
    """How many images a model has been asked about."""

    images: int = 0


@contextmanager
def count_queries(model: nn.Module) -> Iterator[Queries]:
    """Count the images that go through ``model`` in the block."""
    counted = Queries()

    def count(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        counted.images += len(given[0])

    hook = model.register_forward_pre_hook(count)
    try:
        yield counted
    finally:
        hook.remove()


def robust_images(part: SliceResult) -> npt.NDArray[np.bool_]:
    """Return which images are right both clean and under attack."""
    labels = np.array(part.labels)
    clean, attacked = np.array(part.clean_predictions), np.array(part.adversarial_predictions)
    robust: npt.NDArray[np.bool_] = (clean == labels) & (attacked == labels)
    return robust


def _finite_or_none(values: Float[Tensor, " n"]) -> tuple[float | None, ...]:
    return tuple(
        value if finite else None
        for value, finite in zip(values.tolist(), values.isfinite().tolist(), strict=True)
    )


def _device(model: nn.Module) -> torch.device:
    for tensor in chain(model.parameters(), model.buffers()):
        return tensor.device
    return torch.device("cpu")


def _logits(model: nn.Module, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
    with torch.no_grad():
        logits: Tensor = model(x)
    if logits.ndim != 2 or len(logits) != len(x):
        raise InputError(
            f"the model must return logits of shape (images, classes) = ({len(x)}, C), "
            f"but returned {tuple(logits.shape)}"
        )
    return logits


def _predictions(logits: Float[Tensor, "n k"], x: Float[Tensor, "n c h w"]) -> Int[Tensor, " n"]:
    """Return the predicted classes; -1 where the image or its logits are not finite."""
    finite = logits.isfinite().all(1) & x.flatten(1).isfinite().all(1)
    return logits.argmax(1).where(finite, NON_FINITE)


def _run(
    attack: Attack,
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    seed: int,
) -> tuple[Outcome, list[str]]:
    """Return what the attack did and what it warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DfshieldWarning)
        outcome = attack.run(model, x, y, seed=seed)
    notes: list[str] = []
    for warning in caught:
        if str(warning.message) == PROBABILITIES:
            continue  # has a field of its own
        if issubclass(warning.category, DfshieldWarning):
            notes.append(str(warning.message))
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    return outcome, list(dict.fromkeys(notes))


def _check_bounds(
    attack: Attack, x_adv: Float[Tensor, "n c h w"], x: Float[Tensor, "n c h w"]
) -> None:
    """Check ball and range of the finite images.

    Raises:
        DfshieldError: naming the attack and how far it went.
    """
    finite = x_adv.flatten(1).isfinite().all(1)
    if not bool(finite.any()):
        return
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
