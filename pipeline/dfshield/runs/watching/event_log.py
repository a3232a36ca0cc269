"""What happened to a run, for machines: one JSON object a line."""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ValidationError, model_validator

from dfshield.canonical import json_value
from dfshield.errors import DfshieldError, InputError
from dfshield.runs.watching.event_digest import Event, condensed
from dfshield.storage import Folder

EVENTS_FILE = "events.jsonl"
EVENTS_FOLDER = "events"
DIGEST_FILE = "events.digest.json"
KEYS = ("time", "event")  # every event has these
SECONDS_BETWEEN_WRITES = 5.0
SEGMENT_BYTES = 256 * 1024
DIGEST_BYTES = 2 * 1024 * 1024
_END = 64  # bytes by which a digested file is known again


class EventLog:
    """Appends events to the log of a run.

    Every event has ``time`` (UTC, ISO 8601) and ``event``; what else it has depends on the event.
    On a local disk an event is a line added to ``events.jsonl``. Elsewhere, where nothing can be
    appended to, lines are collected and go out every few seconds as objects in ``events/``, named
    by time, host and process, so that two drivers do not write the same one.

    Every two megabytes what all of them come to is written to ``events.digest.json``, so that
    nobody who asks for the state of a run reads a long log: see `digested_events`.

    Args:
        root: the folder of the run.
        heard: called with the name and the fields of every event.
    """

    def __init__(
        self, root: Folder, heard: Callable[[str, Mapping[str, Any]], None] = lambda *_: None
    ) -> None:
        self._root = root
        self._heard = heard
        self._file = root.lines(EVENTS_FILE) if root.local is not None else None
        self._lines: list[str] = []  # of the object that is being filled
        self._written = 0
        self._last_write = time.monotonic()
        self._lock = threading.Lock()
        self._name = ""
        self._size = 0  # of the file, or of all objects that this driver has written
        self._digest_at = DIGEST_BYTES

    def emit(self, event: str, **fields: Any) -> None:
        """Append one event."""
        self._write(json.dumps({"time": now(), "event": event, **fields}))
        self._heard(event, fields)  # last: what it raises finds the event written

    def _write(self, line: str) -> None:
        with self._lock:
            if self._file is not None:
                self._size = self._file.append(line)
                if self._size >= self._digest_at:
                    self._digest()
                return
            self._lines.append(line)
        if time.monotonic() - self._last_write >= SECONDS_BETWEEN_WRITES:
            self.flush()

    def flush(self) -> None:
        """Write what has been collected. What a store that is down does not take is kept.

        Raises:
            InputError: if access to the store is refused.
        """
        with self._lock:
            if self._file is not None:
                self._file.close()
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
                self._size += len(text)
                if self._size >= self._digest_at:
                    self._digest()

    def _digest(self) -> None:
        """Write what the log comes to, if there is enough that has not been digested."""
        self._digest_at = self._size + DIGEST_BYTES
        with suppress(DfshieldError):  # the log itself is whole without it
            digest, new, _ = _followed(self._root)
            if new >= DIGEST_BYTES:
                self._root.write_bytes(DIGEST_FILE, json.dumps(digest.model_dump()).encode())
            else:
                self._digest_at -= new


def _segment_name() -> str:
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
    return f"{moment}-{socket.gethostname()}-{os.getpid()}.jsonl"


def now() -> str:
    """Return the time as it stands in events."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def read_events(root: Folder) -> list[Event]:
    """Return the events of a run in the order of their times, each with ``event`` and ``time``.

    A line that is no such event, as a killed process may leave one, is passed over.
    """
    files = root.list(EVENTS_FOLDER)
    if root.exists(EVENTS_FILE):
        files.append(EVENTS_FILE)
    return _in_order(event for file in files for event in _events_in(root.read_bytes(file)))


def digested_events(root: Folder) -> list[Event]:
    """Return fewer events, which tell the same of the state of a run; see `condensed`.

    Only what was written since the last digest is read from the log; nothing is written.
    """
    digest, _, cut_short = _followed(root)
    return _in_order([*digest.events, *cut_short]) if cut_short else digest.events


class _Digest(BaseModel):
    """What a log comes to, and how far that goes.

    Attributes:
        format_version: of this file and of what `condensed` leaves.
        covered: by file of the log, how many of its bytes are digested, and the last of these.
        events: what they come to.
    """

    format_version: Literal[1] = 1
    covered: dict[str, tuple[int, str]] = {}
    events: list[Event] = []

    @model_validator(mode="after")
    def _is_digest(self) -> "_Digest":
        if any(size < len(end) for size, end in self.covered.values()):
            raise ValueError("covered: fewer bytes than are kept of them")
        if not all(map(_is_event, self.events)):
            raise ValueError("events: not events")
        return self

    def add(self, file: str, offset: int, data: bytes, start: int, stop: int) -> None:
        """Take in the next whole lines of a file, a few megabytes at a time.

        Args:
            file: its name.
            offset: where the data stand in it.
            data: with its next lines.
            start: where in the data these lines begin.
            stop: where they end.
        """
        while start < stop:
            most = data.rfind(b"\n", start, start + DIGEST_BYTES) + 1
            end = most or data.index(b"\n", start) + 1
            new = _events_in(data[start:end])
            self.events = condensed(_in_order([*self.events, *new]))
            self.covered[file] = offset + end, data[max(0, end - _END) : end].decode("latin-1")
            start = end


class _ReplacedError(Exception):
    """A file of the log is not the one that was digested."""


def _followed(root: Folder) -> tuple[_Digest, int, list[Event]]:
    """Return the digest of all whole lines, the bytes that were new, and events of other lines."""
    try:
        digest = _Digest.model_validate(root.read_json(DIGEST_FILE))
    except (InputError, ValidationError):
        digest = _Digest()
    try:
        return _follow(root, digest)
    except _ReplacedError:
        return _follow(root, _Digest())


def _follow(root: Folder, digest: _Digest) -> tuple[_Digest, int, list[Event]]:
    sizes = root.sizes(EVENTS_FOLDER)
    own = root.size(EVENTS_FILE)
    if own is not None:
        sizes[EVENTS_FILE] = own
    if any(sizes.get(file, -1) < size for file, (size, _) in digest.covered.items()):
        raise _ReplacedError
    new = 0
    cut_short: list[Event] = []
    for file, size in sizes.items():
        start, end = digest.covered.get(file, (0, ""))
        if size == start:
            continue
        offset = start - len(end)
        data = root.read_bytes(file, start=offset)
        if not data.startswith(end.encode("latin-1")):
            raise _ReplacedError
        whole = data.rfind(b"\n") + 1
        digest.add(file, offset, data, len(end), whole)
        new += whole - len(end)
        cut_short += _events_in(data[whole:])
    return digest, new, cut_short


def _is_event(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(key), str) for key in KEYS)


def _in_order(events: Iterable[Event]) -> list[Event]:
    return sorted(events, key=lambda event: str(event["time"]))


def _events_in(lines: bytes) -> Iterator[Event]:
    for line in lines.decode("utf-8", errors="replace").encode().split(b"\n"):
        try:
            event = json_value(line)
        except ValueError:
            continue
        if _is_event(event):
            yield event
