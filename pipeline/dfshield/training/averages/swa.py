"""Stochastic weight averaging."""

from dfshield.checks import at_least
from dfshield.errors import InputError
from dfshield.training.averages.base import Average


class Swa(Average):
    """Stochastic weight averaging (Izmailov et al. 2018): the mean of the last epochs' students.

    Args:
        start: the first epoch, from 1, whose student counts; None leaves out the first three
            quarters of the epochs.

    Raises:
        InputError: for an epoch below 1.
    """

    name = "swa"

    def __init__(self, *, start: int | None = None) -> None:
        self.start = None if start is None else at_least(1, start, "start")

    def weight(self, update: int, *, updates_per_epoch: int, epochs: int) -> float:
        """Return 1 over the number of students that count, after their epochs; see `Average`."""
        start = 1 + 3 * epochs // 4 if self.start is None else self.start
        epoch, ends = divmod(update + 1, updates_per_epoch)
        return 1 / (epoch - start + 1) if ends == 0 and epoch >= start else 0.0

    def require_begun(self, epochs: int) -> None:
        """Check that it begins in one of the epochs; see `Average`."""
        if self.start is not None and self.start > epochs:
            raise InputError(f"start: {self.start} is after the last of {epochs} epochs")
