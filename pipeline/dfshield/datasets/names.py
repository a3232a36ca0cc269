"""Names of classes: the numbers among them, and the order that people count them in."""

import re
from collections.abc import Iterable, Sequence

_DIGITS = re.compile(r"([0-9]+)")


def numbers_of(names: Sequence[str]) -> tuple[int, ...] | None:
    """Return the values of names that are all numbers ("0", "07", "11"), else None."""
    if all(_DIGITS.fullmatch(name) for name in names):
        return tuple(map(int, names))
    return None


def in_natural_order(names: Iterable[str]) -> list[str]:
    """Return names in alphabetical order, but numbers in them by value: 2 before 10."""

    def place(name: str) -> tuple[list[str | int], str]:
        # Text and number take turns, so that like is compared with like.
        parts = enumerate(_DIGITS.split(name))
        return [int(part) if at % 2 else part for at, part in parts], name

    return sorted(names, key=place)
