"""Metrics of a run while it works: from its events to whoever keeps or shows figures."""

import queue
import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from dfshield.config import Config
from dfshield.errors import one_line
from dfshield.runs.identity import flatten
from dfshield.runs.watching.metrics import EventMetrics
from dfshield.storage import Folder, redacted
from dfshield.trackers import TRACKERS, Point, Recorder, TrackedRun

SECONDS_TO_CLOSE = 30.0
"""How long the end of a run waits for trackers that still have something to send."""


def openers_of(config: Config, root: Folder) -> dict[str, Callable[[], Recorder]]:
    """Return what opens each tracker that the configuration names.

    Args:
        config: of the run.
        root: its folder.

    Raises:
        InputError: if the package of one is not installed.
    """
    settings = {key: redacted(str(value)) for key, value in flatten(config.model_dump(mode="json"))}
    run = TrackedRun(config.name, root, settings)
    trackers = [TRACKERS.make(named.name, **named.options) for named in config.trackers]
    for tracker in trackers:
        tracker.require_package()
    return {tracker.name: partial(tracker.open, run) for tracker in trackers}


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
        openers: Mapping[str, Callable[[], Recorder]],
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
        self, name: str, opener: Callable[[], Recorder], say: Callable[[str], None]
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
        recorder = None
        try:
            recorder = self._open()
            self._serve(recorder)
        except Exception as error:  # noqa: BLE001 - whatever it is, the run goes on
            reason = re.sub(r"(?<=//)[^/@\s]+@", "***@", one_line(error))
            self._say(f"trackers: {self.name} is left out from here on: {reason}")
            if recorder is not None:
                with suppress(Exception):
                    recorder.close(failed=True)

    def _serve(self, recorder: Recorder) -> None:
        flush_at = time.monotonic() + recorder.flush_every
        while True:
            try:
                item = self._inbox.get(timeout=max(0.0, flush_at - time.monotonic()))
            except queue.Empty:
                recorder.flush()
                flush_at = time.monotonic() + recorder.flush_every
                continue
            if isinstance(item, _End):
                recorder.close(failed=item.failed)
                return
            recorder.log(item)
