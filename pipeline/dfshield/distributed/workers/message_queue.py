"""How workers talk to the driver while they work: letters, collected by the driver as it polls."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.actor import ActorHandle

SECONDS_BETWEEN_LETTERS = 1.0


@dataclass(frozen=True)
class Letter:
    """One call that a worker makes on the driver's monitor."""

    sender: str
    method: str
    arguments: tuple[Any, ...] = ()
    fields: dict[str, Any] = field(default_factory=dict)


class Mailbox:
    """Keeps letters until the driver collects them, and what the driver wants the workers to know.

    It runs as an actor on the driver's node.
    """

    def __init__(self) -> None:
        self._letters: list[Letter] = []
        self._preempted: set[str] = set()
        self.reset()

    def reset(self) -> None:
        """Forget what was said about earlier work."""
        self._stop = False
        self._failure: Exception | None = None
        self._last_size = 0
        self._groups = 0
        self._raised_in: dict[str, int] = {}

    def put(self, worker: str, letters: Sequence[Letter]) -> bool:
        """Take letters of a worker; return whether its node is about to be taken away."""
        self._letters += letters
        return worker in self._preempted

    def collect(self) -> list[Letter]:
        """Hand out the letters that have come in."""
        letters, self._letters = self._letters, []
        return letters

    def stop(self) -> None:
        """Ask the workers to stop."""
        self._stop = True

    def stopping(self) -> bool:
        """Return whether the workers are asked to stop."""
        return self._stop

    def preempt(self, worker: str) -> None:
        """Note that a worker's node is about to be taken away."""
        self._preempted.add(worker)

    def started(self, size: int) -> int:
        """Note that a worker group of a size has started; return the size of the one before it."""
        self._preempted.clear()
        self._groups += 1
        before, self._last_size = self._last_size, size
        return before

    def raised(self, origin: str) -> bool:
        """Note an error of the code in a group; return whether a group before it raised it too."""
        return self._raised_in.setdefault(origin, self._groups) < self._groups

    def fail(self, error: Exception) -> None:
        """Note an error that trying again would not mend, and ask all workers to stop."""
        self._failure = self._failure or error
        self._stop = True

    def failure(self) -> Exception | None:
        """Return the first such error."""
        return self._failure


class RemoteMonitor:
    """The driver's monitor as workers see it; see `dfshield.runs.Monitor`.

    Progress is added up and sent once a second at most, all else at once.
    """

    def __init__(self, mailbox: ActorHandle[Any], sender: str) -> None:
        self._mailbox = mailbox
        self._sender = sender
        self._amount = 0.0
        self._sent = time.monotonic()
        self._answer: ray.ObjectRef[bool] | None = None
        self._preempted = False

    def preempted(self) -> bool:
        """Return whether this worker's node is about to be taken away, as known a second ago."""
        self.advance(0.0)
        self._read_answer()
        return self._preempted

    def begin(self, title: str, *, total: int, done: int, unit: str) -> None:
        """Long work starts."""
        self._send("begin", title, total=total, done=done, unit=unit)

    def advance(self, amount: float) -> None:
        """The work went on."""
        self._amount += amount
        if time.monotonic() - self._sent > SECONDS_BETWEEN_LETTERS:
            self._put([self._progress()])

    def detail(self, text: str) -> None:
        """What to show beside the progress."""
        self._send("detail", text)

    def retried(self) -> None:
        """A unit of the work has to be done once more."""
        self._send("retried")

    def end(self) -> None:
        """The long work is over."""
        self._send("end")

    def say(self, text: str) -> None:
        """One line for the user."""
        self._send("say", text)

    def emit(self, event: str, **fields: Any) -> None:
        """Something for the event log."""
        self._send("emit", event, **fields)

    def flush(self) -> None:
        """Send the progress that has not been sent, and wait until all letters have arrived."""
        ray.get(self._put([self._progress()] if self._amount else []))

    def _progress(self) -> Letter:
        amount, self._amount = self._amount, 0.0
        return Letter(self._sender, "advance", (amount,))

    def _send(self, method: str, *arguments: Any, **fields: Any) -> None:
        letters = [self._progress()] if self._amount else []
        letters.append(Letter(self._sender, method, arguments, fields))
        self._put(letters)

    def _put(self, letters: Sequence[Letter]) -> "ray.ObjectRef[bool]":
        """Send letters; the answer, which comes later, is `preempted`."""
        self._read_answer()
        answer: ray.ObjectRef[bool] = self._mailbox.put.remote(self._sender, letters)
        self._answer = answer
        self._sent = time.monotonic()
        return answer

    def _read_answer(self) -> None:
        if self._answer is not None and ray.wait([self._answer], timeout=0)[0]:
            self._preempted = self._preempted or ray.get(self._answer)
            self._answer = None
