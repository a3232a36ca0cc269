"""One slice of a test set under one attack: the unit that workers share out among themselves."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int, Integer
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor, nn

from dfshield.attacks import (
    Attack,
    Norm,
    check_images,
    check_labels,
    frozen,
    in_float32,
    perturbation_norm,
)
from dfshield.brief import Brief
from dfshield.classifiers import (
    are_probabilities,
    require_module,
    same_logits,
)
from dfshield.errors import InputError
from dfshield.evaluation.attacked import Attacked, attacked_images
from dfshield.seeds import torch_generators
from dfshield.validation import first_problem

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
        engine: how and on what it was computed, as whoever has it computed describes that; None
            where nobody has said, as in slices of older versions.
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
    engine: dict[str, object] | None = None

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
    keep: Callable[[Float[Tensor, "n c h w"]], None] = lambda _: None,
    attacked: nn.Module | None = None,
) -> SliceResult:
    """Attack one slice and predict the images that came back.

    All images are attacked, whether right or wrong when clean; an image is *robust* when both its
    clean and its adversarial prediction are right. Those whose clean logits are not finite are not.
    The result depends on the arguments alone, also for a model that draws random numbers; the
    model's mode and every global random generator stay as they are.

    Args:
        model: maps images in [0, 1] to logits, on any device, in any precision.
        x: images in [0, 1].
        y: labels in 0..C-1.
        attack: None evaluates the clean images.
        seed: of the attack on this slice, and of what the model draws.
        keep: takes the adversarial images, in the order of ``x``, those not attacked as they were.
        attacked: what the attack is given in place of the model: the same, computed faster. What
            counts is what the model itself predicts.

    Raises:
        InputError: for images or labels that the model cannot have.
        DfshieldError: when the attack returns images outside its ball or outside [0, 1].
    """
    started = time.perf_counter()
    require_module(model)
    device = device_of(model)
    x, y = check_images(model, x).to(device), y.to(device)
    with frozen(model := in_float32(model)), torch_generators(seed, device):
        clean, again = _logits(model, x), _logits(model, x)
        y = check_labels(x, y, clean.shape[1])
        sound = _predictions(clean, x) != NON_FINITE
        found = _attack(attack, attacked or model, x, y, sound, seed)
        x_adv, adversarial = found.images, clean.clone()
        if attack is not None and bool(sound.any()):
            adversarial[sound] = _logits(model, x_adv[sound])
    keep(x_adv)
    distances = _distances(x_adv, x, attack.norm if attack else "linf")
    return SliceResult(
        labels=tuple(y.tolist()),
        clean_predictions=tuple(_predictions(clean, x).tolist()),
        adversarial_predictions=tuple(_predictions(adversarial, x_adv).tolist()),
        clean_margins=_finite_or_none(margins(clean, y)),
        adversarial_margins=_finite_or_none(margins(adversarial, y)),
        distances=distances,
        queries=tuple(found.queries.tolist()),
        randomised=not same_logits(clean, again),
        num_classes=clean.shape[1],
        max_perturbation=max(filter(None, distances), default=0.0),
        notes=tuple(found.notes),
        seconds=time.perf_counter() - started,
        probabilities=are_probabilities(clean),
    )


def _attack(
    attack: Attack | None,
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    sound: Bool[Tensor, " n"],
    seed: int,
) -> Attacked:
    """Return all images, those that are ``sound`` under attack."""
    x_adv, queries = x.clone(), torch.zeros(len(x), dtype=torch.float64)
    if attack is None or not bool(sound.any()):
        return Attacked(x_adv, queries, [])
    found = attacked_images(attack, model, x[sound], y[sound], seed=seed)
    x_adv[sound], queries[sound.cpu()] = found.images, found.queries
    return Attacked(x_adv, queries, found.notes)


def margins(logits: Float[Tensor, "n k"], y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return ``z_y - max_{k != y} z_k`` of every image, NaN where a logit is not finite."""
    others = logits.scatter(1, y[:, None], -torch.inf).amax(1)
    margin = logits.gather(1, y[:, None]).squeeze(1) - others
    return margin.where(logits.isfinite().all(1), torch.nan)


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


def _distances(
    x_adv: Float[Tensor, "n c h w"], x: Float[Tensor, "n c h w"], norm: Norm
) -> tuple[float | None, ...]:
    return _finite_or_none(perturbation_norm(x_adv.double() - x.double(), norm))


def device_of(model: nn.Module) -> torch.device:
    """Return where a model's tensors are; the CPU for one without any."""
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
