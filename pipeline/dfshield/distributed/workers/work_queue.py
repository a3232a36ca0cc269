"""Which worker does which unit: the bookkeeping of the driver, without Ray."""

from collections import Counter, deque
from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

Unit = TypeVar("Unit", bound=Hashable)


class WorkQueue(Generic[Unit]):
    """Hands out the units of groups: a group to one worker, as long as nobody would be idle.

    A worker goes on with its own group, then takes up one that nobody has begun, and then helps the
    worker with the most units before it. A unit may be tried ``1 + max_retries`` times.
    """

    def __init__(self, groups: Sequence[Sequence[Unit]], *, max_retries: int) -> None:
        self._groups = [deque(group) for group in groups]
        self._group_of = {unit: i for i, group in enumerate(groups) for unit in group}
        self._owned: dict[str, int] = {}
        self._tries: Counter[Unit] = Counter()
        self.max_retries = max_retries
        self.in_flight: set[Unit] = set()

    def take(self, worker: str) -> Unit | None:
        """Return the next unit for a worker, or None if none is waiting."""
        group = self._owned.get(worker)
        if group is None or not self._groups[group]:
            group = self._next_group()
            if group is None:
                return None
            if group not in self._owned.values():
                self._owned[worker] = group
        unit = self._groups[group].popleft()
        self.in_flight.add(unit)
        self._tries[unit] += 1
        return unit

    def _next_group(self) -> int | None:
        waiting = [i for i, group in enumerate(self._groups) if group]
        owned = set(self._owned.values())
        untouched = [i for i in waiting if i not in owned]
        if untouched:
            return untouched[0]
        return max(waiting, key=lambda i: len(self._groups[i]), default=None)

    def done(self, unit: Unit) -> None:
        """Note that a unit is done, or given up."""
        self.in_flight.discard(unit)

    @property
    def unfinished(self) -> int:
        """The number of units that are waiting or being worked on."""
        return len(self.in_flight) + sum(map(len, self._groups))

    def put_back(self, unit: Unit, *, counted: bool = True) -> bool:
        """Put a unit back before the others of its group, to be tried again.

        Args:
            unit: which.
            counted: whether the failed try counts.

        Returns:
            False if the unit has used up its tries and was not put back.
        """
        self.in_flight.discard(unit)
        if not counted:
            self._tries[unit] -= 1
        elif self._tries[unit] > self.max_retries:
            return False
        self._groups[self._group_of[unit]].appendleft(unit)
        return True

    def forget(self, worker: str) -> None:
        """Let any worker take up the group of one that is gone."""
        self._owned.pop(worker, None)
