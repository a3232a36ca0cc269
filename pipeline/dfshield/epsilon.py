"""Perturbation sizes as people write them: ``0.03`` or ``"8/255"``."""

from fractions import Fraction
from typing import Literal

from dfshield.errors import InputError

Norm = Literal["linf", "l2"]
"""In which perturbations are measured."""

_HINT = 'write a number such as 0.03 or a fraction such as "8/255"'


def parse_epsilon(value: float | int | str, *, key: str = "eps") -> float:
    """Return a perturbation size (or step) as a float on the [0, 1] scale of the images.

    Args:
        value: a number in [0, 1], or a string holding a number or a fraction ``"a/b"``. A bare
            number above 1 is refused, since it is nearly always a pixel value on the scale 0-255;
            an l_2 radius above 1 can be written as a fraction.
        key: how the value is called in the error.

    Raises:
        InputError: for anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InputError(f"{key}: {value!r} is not a perturbation size: {_HINT}")
    try:
        # Fraction alone would write out the power of ten of "1e999999999".
        fraction = isinstance(value, str) and "/" in value
        number = float(Fraction(str(value).replace(" ", "")) if fraction else value)
    except (ValueError, ZeroDivisionError, OverflowError):
        raise InputError(f"{key}: {value!r} is not a perturbation size: {_HINT}") from None
    if not number >= 0 or number == float("inf"):
        raise InputError(f"{key}: {value!r} must be a finite number of at least 0: {_HINT}")
    if number > 1 and not fraction:
        raise InputError(
            f'{key}: {value!r} is above 1, but images lie in [0, 1]: did you mean "{number:g}/255"?'
        )
    return number
