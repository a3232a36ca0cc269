"""When a model has collapsed: it answers nearly everything with one class."""

from collections.abc import Sequence

COLLAPSE_SHARE = 0.95
"""A model that gives more than this share of its predictions to one class has collapsed."""


def has_collapsed(histogram: Sequence[int], total: int) -> bool:
    """Return whether one class takes nearly all predictions.

    Args:
        histogram: how often each class was predicted.
        total: how many predictions there are; more than in ``histogram`` where some are none.
    """
    return max(histogram) > COLLAPSE_SHARE * total
