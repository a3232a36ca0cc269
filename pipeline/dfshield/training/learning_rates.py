"""The learning rates of an optimizer, as a schedule gives them."""

from torch.optim import Optimizer

from dfshield.schedules import Schedule
from dfshield.training.requirements import require_kind


class LearningRates:
    """Sets the learning rates of an optimizer before every update.

    Args:
        schedule: gives the factors; None leaves the optimizer alone.
        optimizer: its learning rates of now are those that the factors apply to.
        num_updates: of the whole training.
    """

    def __init__(
        self, schedule: Schedule | None, optimizer: Optimizer, *, num_updates: int
    ) -> None:
        if schedule is not None:
            require_kind(schedule, Schedule, "schedule")
        self._schedule = schedule
        self._optimizer = optimizer
        self._num_updates = num_updates
        self._rates = [group["lr"] for group in optimizer.param_groups]

    def set(self, update: int) -> None:
        """Set the learning rates of an update, numbered from 0 since the training began."""
        if self._schedule is None:
            return
        factor = self._schedule.factor(update, self._num_updates)
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
