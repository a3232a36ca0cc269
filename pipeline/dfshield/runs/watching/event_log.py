"""What happened to a run, for machines: one JSON object a line."""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from dfshield.errors import DfshieldError, InputError
from dfshield.storage import Folder

EVENTS_FILE = "events.jsonl"
EVENTS_FOLDER = "events"
KEYS = ("time", "event")  # every event has these
SECONDS_BETWEEN_WRITES = 5.0
SEGMENT_BYTES = 256 * 1024


class EventLog:
    """Appends events to the log of a run.

    Every event has ``time`` (UTC, ISO 8601) and ``event``; what else it has depends on the event.
    On a local disk an event is a line added to ``events.jsonl``. Elsewhere, where nothing can be
    appended to, lines are collected and go out every few seconds as objects in ``events/``, named
    by time, host and process, so that two drivers do not write the same one.

    Args:
        root: the folder of the run.
        heard: called with the name and the fields of every event.
    """

    def __init__(
        self, root: Folder, heard: Callable[[str, Mapping[str, Any]], None] = lambda *_: None
    ) -> None:
        self._root = root
        self._heard = heard
        self._lines: list[str] = []  # of the object that is being filled
        self._written = 0
        self._last_write = time.monotonic()
        self._lock = threading.Lock()
        self._name = ""

    def emit(self, event: str, **fields: Any) -> None:
        """Append one event."""
        self._write(json.dumps({"time": now(), "event": event, **fields}))
        self._heard(event, fields)  # last: what it raises finds the event written

    def _write(self, line: str) -> None:
        if self._root.local is not None:
            self._root.append_line(EVENTS_FILE, line)
            return
        with self._lock:
            self._lines.append(line)
        if time.monotonic() - self._last_write >= SECONDS_BETWEEN_WRITES:
            self.flush()

    def flush(self) -> None:
        """Write what has been collected. What a store that is down does not take is kept.

        Raises:
            InputError: if access to the store is refused.
        """
        with self._lock:
            if len(self._lines) == self._written:
                return
            self._name = self._name or _segment_name()
            self._last_write = time.monotonic()
            text = "".join(f"{line}\n" for line in self._lines).encode()
            try:
                self._root.write_bytes(f"{EVENTS_FOLDER}/{self._name}", text)
            except InputError:
                raise
            except DfshieldError:
                return
            self._written = len(self._lines)
            if len(text) > SEGMENT_BYTES:
                self._lines, self._written, self._name = [], 0, ""


def _segment_name() -> str:
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
    return f"{moment}-{socket.gethostname()}-{os.getpid()}.jsonl"


def now() -> str:
    """Return the time as it stands in events."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def read_events(root: Folder) -> list[dict[str, Any]]:
    """Return the events of a run in the order of their times, each with ``event`` and ``time``.

    A line that is no such event, as a killed process may leave one, is passed over.
    """
    files = root.list(EVENTS_FOLDER)
    if root.exists(EVENTS_FILE):
        files.append(EVENTS_FILE)
    events = []
    for file in files:
        for line in root.read_bytes(file).decode("utf-8", errors="replace").splitlines():
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(event, dict) and all(isinstance(event.get(k), str) for k in KEYS):
                events.append(event)
    return sorted(events, key=lambda event: str(event["time"]))
