"""Which worker does which unit: the bookkeeping of the driver, without Ray."""

import heapq
from collections import Counter, deque
from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

Unit = TypeVar("Unit", bound=Hashable)


class WorkQueue(Generic[Unit]):
    """Hands out the units of groups: a group to one worker, as long as nobody would be idle.

    A worker goes on with its own group, then takes up the first one that nobody has begun, and then
    helps with the group that has the most units left. A unit may be tried ``1 + max_retries``
    times. Handing out a unit takes time of the order of the logarithm of the number of groups.
    """

    def __init__(self, groups: Sequence[Sequence[Unit]], *, max_retries: int) -> None:
        self._groups = [deque(group) for group in groups]
        self._group_of = {unit: i for i, group in enumerate(groups) for unit in group}
        self._owned: dict[str, int] = {}
        self._owner: dict[int, str] = {}
        self._tries: Counter[Unit] = Counter()
        self._waiting = sum(map(len, groups))
        # Heaps with entries that are out of date; those at the top are looked at when they matter.
        # Every group that waits and has no owner is in the first, by its number. Every group that
        # waits is in the second, by a size that is at least its own.
        self._untouched = [i for i, group in enumerate(groups) if group]
        self._longest = [(-len(group), i) for i, group in enumerate(groups) if group]
        heapq.heapify(self._longest)
        self.max_retries = max_retries
        self.in_flight: set[Unit] = set()

    def take(self, worker: str) -> Unit | None:
        """Return the next unit for a worker, or None if none is waiting."""
        group = self._owned.get(worker)
        if group is None or not self._groups[group]:
            group = self._next_group()
            if group is None:
                return None
            if group not in self._owner:
                self.forget(worker)
                self._owned[worker], self._owner[group] = group, worker
        unit = self._groups[group].popleft()
        self._waiting -= 1
        self.in_flight.add(unit)
        self._tries[unit] += 1
        return unit

    def _next_group(self) -> int | None:
        while self._untouched:
            group = self._untouched[0]
            if self._groups[group] and group not in self._owner:
                return group
            heapq.heappop(self._untouched)
        while self._longest:
            size, group = self._longest[0]
            now = len(self._groups[group])
            if now and -size == now:
                return group
            if now:
                heapq.heapreplace(self._longest, (-now, group))
            else:
                heapq.heappop(self._longest)
        return None

    def done(self, unit: Unit) -> None:
        """Note that a unit is done, or given up."""
        self.in_flight.discard(unit)

    @property
    def unfinished(self) -> int:
        """The number of units that are waiting or being worked on."""
        return len(self.in_flight) + self._waiting

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
        group = self._group_of[unit]
        self._groups[group].appendleft(unit)
        self._waiting += 1
        heapq.heappush(self._longest, (-len(self._groups[group]), group))
        if group not in self._owner:
            heapq.heappush(self._untouched, group)
        return True

    def forgive(self, unit: Unit) -> None:
        """Let a failed try of a unit that is still to be done not count."""
        if self._tries[unit] > 0:
            self._tries[unit] -= 1

    def forget(self, worker: str) -> None:
        """Let any worker take up the group of one that is gone."""
        group = self._owned.pop(worker, None)
        if group is not None:
            del self._owner[group]
            if self._groups[group]:
                heapq.heappush(self._untouched, group)
