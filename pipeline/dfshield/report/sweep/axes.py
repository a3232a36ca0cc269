"""The swept keys as axes of pictures: their names, their values in order and in words."""

from collections.abc import Container, Hashable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import Any

from dfshield.report.scores import format_eps

LAMBDA1 = "training.objective.lambda1"
LAMBDA2 = "training.objective.lambda2"
TAU = "training.gradrefine.tau"
NUM_BATCHES = "training.gradrefine.num_batches"
EPS = "threat.eps"

_SYMBOLS = {
    LAMBDA1: "λ1",
    LAMBDA2: "λ2",
    TAU: "τ",
    NUM_BATCHES: "K",
    "synthesis.num_images": "N",
    EPS: "ε",
}
_LONGEST = 40


@dataclass(frozen=True)
class Axis:
    """One swept key.

    Attributes:
        key: path in the configuration.
        label: the symbol of the paper where there is one, else the end of the path.
        values: what was swept: numbers in rising order, anything else as it was given.
        numeric: every value is a number or a fraction such as ``"8/255"``.
        named: the values are names of cases.
    """

    key: str
    label: str
    values: tuple[Any, ...]
    numeric: bool
    named: bool = False

    @property
    def ticks(self) -> list[str]:
        """The values in words."""
        return [format_value(self.key, value) for value in self.values]

    @property
    def evenly_spaced(self) -> bool:
        """Whether values at equal distances in a picture are so in truth."""
        numbers = [as_number(value) or 0.0 for value in self.values]
        steps = [after - before for before, after in pairwise(numbers)]
        return all(abs(step - steps[0]) <= 1e-6 * abs(steps[0]) for step in steps)


def axes_of(
    parameters: Mapping[str, Iterable[Any]], *, named: Container[str] = ()
) -> tuple[Axis, ...]:
    """Return the axes of a sweep in their order.

    Args:
        parameters: the values by the path of the axis.
        named: the paths of those whose values are names of cases.
    """
    ends = [".".join(key.split(".")[-1 if key in named else -2 :]) for key in parameters]
    made = []
    for key, end in zip(parameters, ends, strict=True):
        unique = {identity(value): value for value in parameters[key]}
        numbers = [as_number(value) for value in unique.values()]
        numeric = bool(numbers) and None not in numbers and key not in named
        values = list(unique.values())
        if numeric:
            values.sort(key=lambda value: as_number(value) or 0.0)
        label = _SYMBOLS.get(key, end if ends.count(end) == 1 else key)
        made.append(Axis(key, label, tuple(values), numeric, key in named))
    return tuple(made)


def as_number(value: Any) -> float | None:
    """Return a number or a fraction ``"8/255"`` as a float, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        over, _, under = str(value).partition("/")
        number = float(over) / float(under or 1)
    except (ValueError, ZeroDivisionError):
        return None
    return number if isfinite(number) else None


def identity(value: Any) -> Hashable:
    """Return what equal values have in common: 1 and 1.0 are the same, 1 and "one" are not."""
    number = as_number(value)
    return repr(value) if number is None else round(number, 12)


def format_value(key: str, value: Any) -> str:
    """Return a value of a swept key in words, on one line and of bearable length."""
    number = as_number(value)
    if number is None or isinstance(value, str):
        text = " ".join(str(value).split())
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    if key == EPS:
        return format_eps(number)
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def describe(axes: Iterable[Axis], values: Mapping[str, Any]) -> str:
    """Return a setting in words: ``"λ1 1, λ2 0.1"``."""
    words = [f"{a.label} {format_value(a.key, values[a.key])}" for a in axes if a.key in values]
    return ", ".join(words)
