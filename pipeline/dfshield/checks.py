"""Checks of arguments: what is wrong is said in one line that names the argument."""

import math
from collections.abc import Iterable
from difflib import get_close_matches

from dfshield.errors import InputError


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the end of an error about an unknown name: the nearest known one, or all of them."""
    names = {name.lower(): name for name in known}
    close = get_close_matches(word.lower(), names, n=1)
    return (
        f"did you mean {names[close[0]]!r}?" if close else f"known are {', '.join(names.values())}"
    )


def at_least(low: int, value: int, key: str) -> int:
    """Return ``value``, checked to be a whole number of at least ``low``.

    Raises:
        InputError: naming the key otherwise.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise InputError(f"{key}: {value!r} must be a whole number of at least {low}")
    return value


def positive(value: float | int, key: str, *, most: float = float("inf")) -> float:
    """Return ``value``, checked to be a number above 0 and up to ``most``.

    Raises:
        InputError: naming the key otherwise.
    """
    if not _is_number(value) or not 0 < value <= most or value == float("inf"):
        limit = f" and at most {most:g}" if most < float("inf") else ""
        raise InputError(f"{key}: {value!r} must be a number above 0{limit}")
    return float(value)


def non_negative(value: float | int, key: str) -> float:
    """Return ``value``, checked to be a finite number of at least 0.

    Raises:
        InputError: naming the key otherwise.
    """
    if not _is_number(value) or value < 0:
        raise InputError(f"{key}: {value!r} must be a finite number of at least 0")
    return float(value)


def share(value: float | int, key: str) -> float:
    """Return ``value``, checked to be a number in [0, 1].

    Raises:
        InputError: naming the key otherwise.
    """
    if not _is_number(value) or not 0 <= value <= 1:
        raise InputError(f"{key}: {value!r} must be a number in [0, 1]")
    return float(value)


def text(value: str, key: str) -> str:
    """Return ``value``, checked to be text that is not empty.

    Raises:
        InputError: naming the key otherwise.
    """
    if not isinstance(value, str) or not value:
        raise InputError(f"{key}: {value!r} must be a text that is not empty")
    return value


def one_of(known: tuple[str, ...], value: str, key: str) -> str:
    """Return ``value``, checked to be one of the known ones.

    Raises:
        InputError: naming the key and the nearest known value otherwise.
    """
    if value not in known:
        raise InputError(f"{key}: {value!r} is unknown: {nearest(str(value), known)}")
    return value


def _is_number(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False
