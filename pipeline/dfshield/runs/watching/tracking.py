"""Metrics of a run while it works: from its events to whoever keeps or shows figures."""

import queue
import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from dfshield.errors import one_line
from dfshield.runs.watching.metrics import EventMetrics, Point

SECONDS_TO_CLOSE = 30.0
"""How long the end of a run waits for trackers that still have something to send."""


@runtime_checkable
class Tracker(Protocol):
    """Somebody who keeps or shows metrics: files, a server, a gauge.

    All methods are called from one thread of the tracker's own, so they may take their time; what
    they raise costs the run nothing.

    Attributes:
        flush_every: seconds between two calls of `flush`, whether there is a new value or not.
    """

    flush_every: float

    def log(self, point: Point) -> None:
        """Take values; a step may come again, with equal values, when a run is resumed."""

    def flush(self) -> None:
        """Write or send what was taken since the last time."""

    def close(self, *, failed: bool) -> None:
        """Write or send the rest; ``failed`` says whether the run ended before it was done."""


class Tracking:
    """Tells trackers what happens in a run, inside its block. A context manager.

    Nobody is opened before there is something to tell: a run that has nothing to do leaves no
    trace. A tracker that fails is named once and left out from then on.

    Args:
        openers: what opens each tracker, by the name that users know it by.
        metrics: what makes metrics of events.
        say: takes a line for the user.
    """

    def __init__(
        self,
        openers: Mapping[str, Callable[[], Tracker]],
        metrics: EventMetrics,
        say: Callable[[str], None],
    ) -> None:
        self._openers = openers
        self._metrics = metrics
        self._say = say
        self._feeds: list[_Feed] = []

    def __enter__(self) -> "Tracking":
        self._feeds = [_Feed(name, opener, self._say) for name, opener in self._openers.items()]
        return self

    def __exit__(self, error: object, *_: object) -> None:
        begun = [feed for feed in self._feeds if feed.ident is not None]
        self._feeds = []
        deadline = time.monotonic() + SECONDS_TO_CLOSE
        for feed in begun:
            feed.end(failed=error is not None)
        for feed in begun:
            feed.join(max(0.0, deadline - time.monotonic()))
            if feed.is_alive():
                self._say(f"trackers: {feed.name} does not answer; it lacks the last values")

    def hear(self, event: str, fields: Mapping[str, Any]) -> None:
        """Take notice of an event; never waits for a tracker."""
        point = self._metrics.of(event, fields)
        if point is None:
            return
        for feed in self._feeds:
            feed.put(point)


@dataclass(frozen=True)
class _End:
    failed: bool


class _Feed(threading.Thread):
    """A tracker's own thread: hands it what has come in, and flushes now and then."""

    def __init__(
        self, name: str, opener: Callable[[], Tracker], say: Callable[[str], None]
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._open = opener
        self._say = say
        self._inbox: queue.SimpleQueue[Point | _End] = queue.SimpleQueue()

    def put(self, point: Point) -> None:
        self._inbox.put(point)
        if self.ident is None:
            self.start()

    def end(self, *, failed: bool) -> None:
        self._inbox.put(_End(failed))

    def run(self) -> None:
        tracker = None
        try:
            tracker = self._open()
            self._serve(tracker)
        except Exception as error:  # noqa: BLE001 - whatever it is, the run goes on
            reason = re.sub(r"(?<=//)[^/@\s]+@", "***@", one_line(error))
            self._say(f"trackers: {self.name} is left out from here on: {reason}")
            if tracker is not None:
                with suppress(Exception):
                    tracker.close(failed=True)

    def _serve(self, tracker: Tracker) -> None:
        flush_at = time.monotonic() + tracker.flush_every
        while True:
            try:
                item = self._inbox.get(timeout=max(0.0, flush_at - time.monotonic()))
            except queue.Empty:
                tracker.flush()
                flush_at = time.monotonic() + tracker.flush_every
                continue
            if isinstance(item, _End):
                tracker.close(failed=item.failed)
                return
            tracker.log(item)
