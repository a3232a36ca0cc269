"""The contract of the learning-rate schedules."""

from abc import ABC, abstractmethod
from fractions import Fraction
from typing import final

from dfshield.checks import share
from dfshield.families import Variant


class Schedule(Variant, ABC):
    """The learning rate of every update, as a factor of the one that is configured.

    It depends on the number of the update alone, so that a training which goes on from a checkpoint
    follows it exactly. A subclass writes :meth:`after_warmup`.

    Args:
        warmup: share of all updates, in [0, 1], in which the rate rises linearly to the whole.

    Raises:
        InputError: for a share outside [0, 1].
    """

    def __init__(self, *, warmup: float | int = 0.0) -> None:
        self.warmup = share(warmup, "warmup")

    @final
    def factor(self, update: int, num_updates: int) -> float:
        """Return the factor of an update: update u of w in the warm-up has ``(u + 1) / (w + 1)``.

        Args:
            update: its number, from 0, since the training began.
            num_updates: of the whole training.
        """
        warming = int(exactly(self.warmup) * num_updates)
        if update < warming:
            return (update + 1) / (warming + 1)
        return self.after_warmup(update - warming, num_updates - warming)

    @abstractmethod
    def after_warmup(self, update: int, num_updates: int) -> float:
        """Return the factor of an update among those after the warm-up, which alone are counted."""


def exactly(number: float) -> Fraction:
    """Return the number that was written, without the rounding error of its float."""
    return Fraction(str(number))
