"""The contract of the averages over the students of many updates."""

from abc import ABC, abstractmethod

from dfshield.families import Variant


class Average(Variant, ABC):
    """A weighted mean of the students that the updates leave, kept beside the training.

    It depends on the numbers of the updates alone, so that a training which goes on from a
    checkpoint follows it exactly. A subclass writes :meth:`weight`.
    """

    @abstractmethod
    def weight(self, update: int, *, updates_per_epoch: int, epochs: int) -> float:
        """Return the weight w of the student after an update: ``mean + w (student - mean)``.

        0 leaves the mean alone; 1 begins it.

        Args:
            update: its number, from 0, since the training began.
            updates_per_epoch: how many there are.
            epochs: of the training.
        """

    def require_begun(self, epochs: int) -> None:
        """Check that the average begins before a training of so many epochs ends.

        Raises:
            InputError: if it does not, naming the option.
        """
