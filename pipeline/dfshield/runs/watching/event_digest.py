"""What a long event log comes to: fewer events that tell the same of a run."""

from collections.abc import Mapping, Sequence
from typing import Any

Event = dict[str, Any]

COMMITS = frozenset({"part_committed", "part_made"})
ENDS_OF_A_UNIT = frozenset({"unit_done", "unit_failed", "unit_retried"}) | COMMITS
_SESSION_BOUNDS = frozenset({"synthesis_started", "synthesis_done"})
_SUPERSEDED = frozenset({"fit_step", "update"})


def number(event: Mapping[str, Any], key: str) -> float:
    """Return a number of an event; 0 where it has none, or none that can be added up."""
    value = event.get(key)
    return float(value) if isinstance(value, int | float) and abs(value) < 1e300 else 0.0


def unit_of(event: Mapping[str, Any]) -> str:
    """Return which unit of work an event is about."""
    return str(event.get("unit", event.get("path")))


def is_update(event: Mapping[str, Any]) -> bool:
    """Return whether an event is an update of a training, with what an update has."""
    return (
        event["event"] == "update"
        and isinstance(event.get("epoch"), int)
        and isinstance(event.get("loss"), int | float)
    )


def condensed(events: Sequence[Event]) -> list[Event]:
    """Return the events that still tell something, in their order.

    Units that have begun and ended leave nothing but sums: one ``part_committed`` with all images
    and seconds of a worker. Of the steps of a fit and of the updates of a training the last ones
    stay. Everything else stays as it is, the last event too. What is condensed may be condensed
    again, together with later events, and comes to the same.

    Args:
        events: all of a run, from its first one on, in their order.
    """
    digest = _Digest()
    for event in events[:-1]:
        digest.add(event)
    return [*digest.kept.values(), *events[-1:]]


class _Digest:
    """Adds up events.

    Attributes:
        kept: what stays, by the number of its event.
    """

    def __init__(self) -> None:
        self.kept: dict[int, Event] = {}
        self._count = 0
        self._last: dict[tuple[str, str], int] = {}
        self._begin_session()

    def _begin_session(self) -> None:
        self._started: dict[str, list[int]] = {}
        self._made: dict[tuple[str, int | None], Event] = {}
        self._seen: set[str] = set()

    def add(self, event: Event) -> None:
        name, worker = event["event"], event.get("worker")
        if name in _SESSION_BOUNDS:
            self._begin_session()
        if name in ENDS_OF_A_UNIT:
            for started in self._started.pop(unit_of(event), ()):
                del self.kept[started]
        if isinstance(worker, str):
            self._add_of_worker(event, worker)
        elif name in _SUPERSEDED and (name == "fit_step" or is_update(event)):
            key = (name, repr(event.get("seed")))
            self.kept.pop(self._last.get(key, -1), None)
            self._last[key] = self._keep(event)
        elif name != "unit_done":
            self._keep(event)

    def _add_of_worker(self, event: Event, worker: str) -> None:
        name, seed = event["event"], event.get("seed")
        if name in ("unit_started", "unit_done") and worker not in self._seen:
            # Workers are listed in the order of their first events, which will not stay.
            self._keep({"time": event["time"], "event": "worker_seen", "worker": worker})
        self._seen.add(worker)
        if name == "unit_started":
            self._started.setdefault(unit_of(event), []).append(self._keep(event))
        elif name in COMMITS and (seed is None or isinstance(seed, int)):
            self._add_commit(event, worker, seed)
        elif name != "unit_done":
            self._keep(event)

    def _add_commit(self, event: Event, worker: str, seed: int | None) -> None:
        made = self._made.get((worker, seed))
        if made is None:
            made = {key: event[key] for key in ("time", "event", "seed") if key in event}
            made |= {"worker": worker, "images": 0, "seconds": 0.0}
            self._made[worker, seed] = made
            self._keep(made)
        made["images"] += int(number(event, "images"))
        made["seconds"] += number(event, "seconds")

    def _keep(self, event: Event) -> int:
        self._count += 1
        self.kept[self._count] = event
        return self._count
