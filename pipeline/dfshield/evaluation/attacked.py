"""An attack on images, watched: what it found, what it asked, what it warned of."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn

from dfshield.attacks import RANGE_TOLERANCE, Attack, Outcome, perturbation_norm
from dfshield.classifiers import PROBABILITIES
from dfshield.errors import DfshieldError, DfshieldWarning


class Attacked(NamedTuple):
    """What an attack did to some images: the images, queries for each, and what it warned of."""

    images: Float[Tensor, "n c h w"]
    queries: Float64[Tensor, " n"]
    notes: list[str]


def attacked_images(
    attack: Attack,
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    seed: int,
) -> Attacked:
    """Return what the attack found. Where it counts no queries, all are shared out evenly.

    Raises:
        DfshieldError: when it returns images outside its ball or outside [0, 1].
    """
    with count_queries(model) as counted:
        outcome, notes = _run(attack, model, x, y, seed)
    _check_bounds(attack, outcome.images, x)
    evenly = torch.full((len(x),), counted.images / len(x))
    queries = evenly if outcome.queries is None else outcome.queries.cpu()
    return Attacked(outcome.images, queries.double(), notes)


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
