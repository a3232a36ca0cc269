"""Which GPUs fail what others do: the bookkeeping of the driver, without Ray."""

from collections import defaultdict
from collections.abc import Hashable

FAILURES_ALLOWED = 1
"""So often a GPU may fail before it has done anything again."""


class GpuRecord:
    """Tells a faulty GPU from work that fails everywhere.

    A GPU is out when it has failed twice without having done a unit in between, unless those units
    have failed on another GPU too: then the units are at fault. One that computes other numbers
    than the work was begun with is out at once. GPUs are named as `WorkerInfo.gpu` does; one
    without a name, a slot of the CPUs, is never out for its failures.
    """

    def __init__(self) -> None:
        self._failed: defaultdict[str, list[Hashable]] = defaultdict(list)  # since the last success
        self._others: set[str] = set()
        self._places: defaultdict[Hashable, set[str]] = defaultdict(set)

    def note_failure(self, gpu: str, unit: Hashable) -> None:
        """Note that a worker was lost on a GPU with a unit, or (None) as it started."""
        if gpu:
            self._failed[gpu].append(unit)
            if unit is not None:
                self._places[unit].add(gpu)

    def note_other(self, gpu: str) -> None:
        """Note that a GPU computes other numbers than the work was begun with."""
        self._others.add(gpu)

    def is_other(self, gpu: str) -> bool:
        """Return whether a GPU computes other numbers than the work was begun with."""
        return gpu in self._others

    def forget_others(self) -> None:
        """Forget which GPUs computed other numbers: the work has ended."""
        self._others.clear()

    def note_success(self, gpu: str) -> None:
        """Note that a unit was done on a GPU."""
        self._failed.pop(gpu, None)

    def is_out(self, gpu: str) -> bool:
        """Return whether no more work is for this GPU."""
        return self.is_other(gpu) or len(self.failures(gpu)) > FAILURES_ALLOWED

    def failures(self, gpu: str) -> list[Hashable]:
        """Return the units that failed on this GPU alone since its last success."""
        return [unit for unit in self._failed[gpu] if self._places[unit] <= {gpu}] if gpu else []
