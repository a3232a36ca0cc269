"""The columns of a part: those that every part has, and the synthesizer's own.

In format 2 the own columns follow the common ones, by name. Format 1 is what sets of diversified
sample synthesis have always been stored in: its seven own columns stand around ``batch`` and
``seed``.
"""

from collections.abc import Iterable, Mapping

from dfshield.errors import InputError

ALPHAS = ("alpha_class", "alpha_feature", "alpha_tv")
LOSSES = ("loss_class", "loss_feature", "loss_tv", "loss_total")
FORMAT_1 = {**dict.fromkeys(ALPHAS, "float64"), **dict.fromkeys(LOSSES, "float32")}
"""The own columns of a set of format 1: coefficients and last losses of the three terms."""

COMMON = ("image", "label", "teacher_logits", "batch", "seed")
DTYPES = ("float32", "float64", "int64")


def is_format_1(own: Iterable[str]) -> bool:
    """Return whether a set with these own columns is stored in format 1."""
    return set(own) == set(FORMAT_1)


def column_order(own: Iterable[str]) -> tuple[str, ...]:
    """Return the names of all columns of a part's table, in their order."""
    names = sorted(own)
    before, after = (ALPHAS, LOSSES) if is_format_1(names) else ((), names)
    return (*COMMON[:3], *before, *COMMON[3:], *after)


def check_columns(own: Mapping[str, str]) -> None:
    """Check the names and dtypes of own columns.

    Raises:
        InputError: naming the column.
    """
    for name, dtype in own.items():
        if name in COMMON:
            raise InputError(f"columns: {name!r} is a column of every part")
        if dtype not in DTYPES:
            raise InputError(f"columns: {name} is {dtype}: choose one of {', '.join(DTYPES)}")
    if is_format_1(own) and dict(own) != FORMAT_1:
        raise InputError("columns: those of format 1 have other dtypes")
