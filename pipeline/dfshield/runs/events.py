"""What a run tells while it works: a log for machines and an observer for people."""

import json
from datetime import UTC, datetime
from typing import Any, Protocol, runtime_checkable

from dfshield.storage import Folder

EVENTS_FILE = "events.jsonl"
KEYS = ("time", "event")  # every event has these


@runtime_checkable
class Observer(Protocol):
    """Somebody who watches a run: a progress display, or nobody."""

    def begin(self, title: str, *, total: int, done: int, unit: str) -> None:
        """Long work starts: ``done`` of ``total`` units exist already."""

    def advance(self, amount: float) -> None:
        """The work went on by ``amount`` units."""

    def detail(self, text: str) -> None:
        """What to show beside the progress: a loss, a rate."""

    def retried(self) -> None:
        """A unit of the work has to be done once more."""

    def end(self) -> None:
        """The long work is over."""

    def say(self, text: str) -> None:
        """One line for the user."""


@runtime_checkable
class Monitor(Observer, Protocol):
    """An observer that keeps a log as well: what work is given to tell how it goes."""

    def emit(self, event: str, **fields: Any) -> None:
        """Something for the event log."""


class SilentObserver:
    """Watches without a word: for library use and tests."""

    def begin(self, title: str, *, total: int, done: int, unit: str) -> None:
        """Ignore."""

    def advance(self, amount: float) -> None:
        """Ignore."""

    def detail(self, text: str) -> None:
        """Ignore."""

    def retried(self) -> None:
        """Ignore."""

    def end(self) -> None:
        """Ignore."""

    def say(self, text: str) -> None:
        """Ignore."""


class SilentMonitor(SilentObserver):
    """Keeps no log either."""

    def emit(self, event: str, **fields: Any) -> None:
        """Ignore."""


class EventLog:
    """Appends events to ``events.jsonl`` of a run folder, one JSON object a line.

    Every event has ``time`` (UTC, ISO 8601) and ``event``; what else it has depends on the event.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def emit(self, event: str, **fields: Any) -> None:
        """Append one event."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._folder.append_line(EVENTS_FILE, json.dumps({"time": now, "event": event, **fields}))


class RunMonitor:
    """The monitor of a run: its event log and its observer."""

    def __init__(self, log: EventLog, observer: Observer) -> None:
        self.emit = log.emit
        self.begin = observer.begin
        self.advance = observer.advance
        self.detail = observer.detail
        self.retried = observer.retried
        self.end = observer.end
        self.say = observer.say


def read_events(folder: Folder) -> list[dict[str, Any]]:
    """Return the events of a run, each with ``event`` and ``time``.

    A line that is no such event, as a killed process may leave one, is passed over.
    """
    if not folder.exists(EVENTS_FILE):
        return []
    events = []
    for line in folder.read_bytes(EVENTS_FILE).decode("utf-8", errors="replace").splitlines():
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict) and all(isinstance(event.get(k), str) for k in KEYS):
            events.append(event)
    return events
