"""The lease of a run: one driver at a time, and word of one that ended without a word."""

import os
import shlex
import socket
import sys
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import psutil

from dfshield.errors import DfshieldError, InputError
from dfshield.runs.execution.interrupt import interrupt_main_thread
from dfshield.runs.watching.event_log import now
from dfshield.storage import Folder

LEASE_FILE = "lease.json"
HEARTBEAT_S = 10.0
STALE_AFTER_S = 60.0
_LOCK_FILE = ".lease.lock"


@dataclass(frozen=True)
class Holder:
    """Who works on a run.

    Attributes:
        id: a random one, of this lease alone.
        host: name of the machine.
        process: its number there.
        process_started: when that process began (seconds since 1970): numbers are used again.
        command: what was called.
        since: when the lease was taken (UTC, ISO 8601).
        heartbeat: when it was last renewed.
    """

    id: str
    host: str
    process: int
    process_started: float
    command: str
    since: str
    heartbeat: str

    @property
    def silent_for(self) -> float:
        """Seconds since the last renewal, by this machine's clock."""
        return (datetime.now(UTC) - datetime.fromisoformat(self.heartbeat)).total_seconds()

    @property
    def gone(self) -> bool:
        """Whether it surely works no more: dead on this host, or silent for a minute elsewhere."""
        if self.host != socket.gethostname():
            return self.silent_for > STALE_AFTER_S
        try:
            started = psutil.Process(self.process).create_time()
        except psutil.NoSuchProcess:
            return True
        # Another process of the same number; but a clock that was set moves the times of all.
        return abs(started - self.process_started) > 1.0 and self.silent_for > STALE_AFTER_S

    def description(self) -> str:
        """Return who it is, for people."""
        return f"process {self.process} on {self.host}, since {self.since}"


def read_holder(root: Folder) -> Holder | None:
    """Return who holds the lease of a run, or None; a lease that cannot be read holds nothing."""
    try:
        return Holder(**root.read_json(LEASE_FILE))
    except (InputError, TypeError):
        return None


def driver_state(root: Folder) -> dict[str, Any]:
    """Return whether a driver works on a run, and who, as a JSON value."""
    holder = read_holder(root)
    if holder is None:
        return {"state": "none"}
    return {
        "state": "dead" if holder.gone else "at work",
        "host": holder.host,
        "process": holder.process,
        "since": holder.since,
        "heartbeat": holder.heartbeat,
    }


class Lease:
    """Keeps other drivers away from a run while it is held. A context manager.

    The file ``lease.json`` names the holder and is renewed every ten seconds. One whose process is
    dead on this host, or that was silent for a minute on another, is taken over. On a local disk
    two drivers that come at once are kept apart by a lock; the clocks of hosts that share a disk
    have to agree to within a minute. Nothing can be locked on an object store: there two drivers
    may hold the lease at once, and whatever they write is the same.

    Args:
        root: the folder of the run.
        on_beat: called with every renewal.

    Attributes:
        taken_from: the holder that was gone when the lease was taken, if there was one.
    """

    def __init__(self, root: Folder, *, on_beat: Callable[[], None] = lambda: None) -> None:
        self._root = root
        self._on_beat = on_beat
        self._own = _new_holder()
        self._ended = threading.Event()
        self._made_folder = False
        self._lost_to: Holder | None = None
        self._thread: threading.Thread | None = None
        self.taken_from: Holder | None = None

    def __enter__(self) -> "Lease":
        self._made_folder = not self._root.exists("")
        with self._root.locked(_LOCK_FILE):
            other = read_holder(self._root)
            if other is not None and not other.gone:
                raise InputError(
                    f"{self._root}: another dfshield is at work here ({other.description()}, "
                    f"last sign of life {max(0, other.silent_for):.0f} s ago): wait for it or stop "
                    "it, or go on under another name="
                )
            self.taken_from = other
            self._write()
        self._thread = threading.Thread(target=self._beat, name="dfshield-lease", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        if self._lost_to is not None:
            raise DfshieldError(
                f"{self._root}: another dfshield has taken over ({self._lost_to.description()}), "
                "since this one gave no sign of life for a minute"
            ) from None
        with suppress(DfshieldError), self._root.locked(_LOCK_FILE):
            holder = read_holder(self._root)
            if holder is not None and holder.id == self._own.id:
                self._root.delete(LEASE_FILE)
            if self._root.list() == [_LOCK_FILE]:  # nothing was done: leave nothing behind
                self._root.delete(_LOCK_FILE)
                if self._made_folder:
                    self._root.remove()

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_S):
            # A store or disk that fails now and then is heard of from the work itself.
            with suppress(DfshieldError):
                holder = read_holder(self._root)
                if holder is not None and holder.id != self._own.id:
                    if self._root.local is not None:
                        self._lost_to = holder
                        interrupt_main_thread()
                        return
                else:
                    self._write()
                self._on_beat()

    def _write(self) -> None:
        self._root.write_json(LEASE_FILE, asdict(self._own) | {"heartbeat": now()})


def _new_holder() -> Holder:
    process = psutil.Process()
    return Holder(
        id=uuid.uuid4().hex,
        host=socket.gethostname(),
        process=os.getpid(),
        process_started=process.create_time(),
        command=shlex.join(sys.argv),
        since=now(),
        heartbeat=now(),
    )
