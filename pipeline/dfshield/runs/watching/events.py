"""What a run tells while it works: a log for machines and an observer for people."""

from typing import Any, Protocol, runtime_checkable

from dfshield.runs.watching.event_log import EventLog


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


class RunMonitor:
    """The monitor of a run: its event log, if any, and its observer."""

    def __init__(self, log: EventLog | SilentMonitor, observer: Observer) -> None:
        self.emit = log.emit
        self.begin = observer.begin
        self.advance = observer.advance
        self.detail = observer.detail
        self.retried = observer.retried
        self.end = observer.end
        self.say = observer.say
