"""Mean and standard deviation of the images that a network was trained on."""

import math
from collections.abc import Sequence

from dfshield.errors import InputError


def per_channel(key: str, values: Sequence[float], channels: int) -> list[float]:
    """Return c numbers as they are, checked to be such."""
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != channels or not all(map(math.isfinite, numbers)):
        given = " ".join(str(numbers or values).split())
        raise InputError(f"{key}: {given} must be {channels} finite numbers, one per channel")
    return numbers


def require_normalisation(key: str, values: Sequence[float]) -> None:
    """Check that a mean or a standard deviation lies on the [0, 1] scale of the images.

    Raises:
        InputError: naming the key, if one does not.
    """
    if not all(0 <= value <= 1 for value in values):
        raise InputError(
            f"{key}: {list(values)} must lie in [0, 1], the scale of the images: divide what is "
            "meant for pixels of 0 to 255 by 255"
        )


def unnormalised(source: str) -> str:
    """Return what is assumed of a network of whatever origin where no mean and std are given."""
    return (
        f"{source} is given images in [0, 1] as they are (mean 0, std 1), since no mean and std "
        "are given: give both if it takes normalised images"
    )
