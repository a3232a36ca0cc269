"""Messages of the workers to the driver: a queue in an actor, and the monitor that writes to it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.actor import ActorHandle

SECONDS_BETWEEN_MESSAGES = 1.0


@dataclass(frozen=True)
class Message:
    """One call of a worker on the driver's monitor."""

    sender: str
    method: str
    arguments: tuple[Any, ...] = ()
    fields: dict[str, Any] = field(default_factory=dict)


class MessageQueue:
    """An actor on the driver's node: messages for the driver, and the driver's requests to workers.

    ``ray.util.queue.Queue`` would carry the messages, but a worker needs an answer to each: whether
    its node is about to be taken away.
    """

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._preempted: set[str] = set()
        self._first: dict[str, str] = {}
        self.reset()

    def reset(self) -> None:
        """Forget the state of earlier training groups."""
        self._stop = False
        self._failure: Exception | None = None
        self._last_size = 0
        self._groups = 0
        self._raised_in: dict[str, int] = {}

    def put(self, worker: str, messages: Sequence[Message]) -> bool:
        """Add messages of a worker; return whether its node is about to be taken away."""
        self._messages += messages
        return worker in self._preempted

    def collect(self) -> list[Message]:
        """Return the messages that have arrived since the last call."""
        messages, self._messages = self._messages, []
        return messages

    def first(self, key: str, value: str) -> str:
        """Return the value that a worker gave first for a key; see `dfshield.runs.Worker`."""
        return self._first.setdefault(key, value)

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
        """Note that a training group has started; return the size of the one before it, or 0."""
        self._preempted.clear()
        self._groups += 1
        before, self._last_size = self._last_size, size
        return before

    def raised(self, origin: str) -> bool:
        """Note an error of the code in a group; return whether an earlier group raised it too."""
        return self._raised_in.setdefault(origin, self._groups) < self._groups

    def fail(self, error: Exception) -> None:
        """Note an error that a retry would repeat, and ask all workers to stop."""
        self._failure = self._failure or error
        self._stop = True

    def failure(self) -> Exception | None:
        """Return the first error given to `fail`."""
        return self._failure


class RemoteMonitor:
    """The driver's monitor, as workers call it; see `dfshield.runs.Monitor`.

    Progress is added up and sent once a second at most, everything else at once.

    Args:
        queue: handle of the `MessageQueue`.
        sender: name of the worker.
    """

    def __init__(self, queue: ActorHandle[Any], sender: str) -> None:
        self._queue = queue
        self._sender = sender
        self._amount = 0.0
        self._sent = time.monotonic()
        self._answer: ray.ObjectRef[bool] | None = None
        self._preempted = False

    def preempted(self) -> bool:
        """Return whether this worker's node is about to be taken away, as of a second ago."""
        self.advance(0.0)
        self._read_answer()
        return self._preempted

    def first(self, key: str, value: str) -> str:
        """Return the value that a worker gave first for a key; see `dfshield.runs.Worker`."""
        answer: ray.ObjectRef[str] = self._queue.first.remote(key, value)
        return ray.get(answer)

    def begin(self, title: str, *, total: int, done: int, unit: str) -> None:
        """Send the start of long work."""
        self._send("begin", title, total=total, done=done, unit=unit)

    def advance(self, amount: float) -> None:
        """Add progress, and send it if the last message is a second old."""
        self._amount += amount
        if time.monotonic() - self._sent > SECONDS_BETWEEN_MESSAGES:
            self._put([self._progress()])

    def detail(self, text: str) -> None:
        """Send what is shown beside the progress."""
        self._send("detail", text)

    def retried(self) -> None:
        """Send that a unit of the work is retried."""
        self._send("retried")

    def end(self) -> None:
        """Send the end of long work."""
        self._send("end")

    def say(self, text: str) -> None:
        """Send one line for the user."""
        self._send("say", text)

    def emit(self, event: str, **fields: Any) -> None:
        """Send an entry for the event log."""
        self._send("emit", event, **fields)

    def flush(self) -> None:
        """Send the remaining progress, and wait until all messages have arrived."""
        ray.get(self._put([self._progress()] if self._amount else []))

    def _progress(self) -> Message:
        amount, self._amount = self._amount, 0.0
        return Message(self._sender, "advance", (amount,))

    def _send(self, method: str, *arguments: Any, **fields: Any) -> None:
        messages = [self._progress()] if self._amount else []
        messages.append(Message(self._sender, method, arguments, fields))
        self._put(messages)

    def _put(self, messages: Sequence[Message]) -> "ray.ObjectRef[bool]":
        """Send messages; the answer, which arrives later, is `preempted`."""
        self._read_answer()
        answer: ray.ObjectRef[bool] = self._queue.put.remote(self._sender, messages)
        self._answer = answer
        if messages:
            self._sent = time.monotonic()
        return answer

    def _read_answer(self) -> None:
        if self._answer is not None and ray.wait([self._answer], timeout=0)[0]:
            self._preempted = self._preempted or ray.get(self._answer)
            self._answer = None
