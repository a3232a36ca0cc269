"""The driver's side of the message queue: messages of workers become calls on the run's monitor."""

import os
from collections import Counter
from functools import cached_property
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from dfshield.distributed.workers.message_queue import Message, MessageQueue
from dfshield.errors import DfshieldError
from dfshield.runs import Monitor


class MessageReader:
    """Starts the message queue and passes what workers write to it on to a monitor."""

    def __init__(self) -> None:
        # Ray would print the errors of lost workers, which the driver reports itself.
        os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
        self._unconfirmed: Counter[str] = Counter()

    @cached_property
    def queue(self) -> ActorHandle[Any]:
        """The actor that workers write to, on the driver's node; started on first use."""
        here = ray.get_runtime_context().get_node_id()
        actor: Any = ray.remote(MessageQueue)
        started: ActorHandle[Any] = actor.options(
            num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False)
        ).remote()
        return started

    def deliver(self, monitor: Monitor) -> list[Message]:
        """Pass the messages that have arrived since the last time to a monitor; return them.

        Raises:
            DfshieldError: if the queue's process is lost.
        """
        messages: list[Message] = self.ask("collect")
        for message in messages:
            if message.method == "advance":
                self._unconfirmed[message.sender] += message.arguments[0]
            getattr(monitor, message.method)(*message.arguments, **message.fields)
        return messages

    def ask(self, method: str) -> Any:
        """Call a method of the queue and return its result.

        Raises:
            DfshieldError: if the queue's process is lost.
        """
        try:
            return ray.get(getattr(self.queue, method).remote())
        except ray.exceptions.RayActorError:
            raise DfshieldError(
                "the process that collects the messages of the workers was killed; what was "
                "committed is kept: give the same command again"
            ) from None

    def announce_draining(
        self, worker: str, node: str, monitor: Monitor, *, place: str, notify: str
    ) -> None:
        """Report that a worker's node is about to be taken away, and notify a worker of it.

        Args:
            worker: the name of the worker on that node.
            node: the id of the node.
            monitor: of the run.
            place: how messages call the worker.
            notify: the name of the worker that has to write a checkpoint.
        """
        self.queue.preempt.remote(notify)
        monitor.emit("node_leaving", worker=worker, node=node)
        monitor.say(f"{place}: the node is about to be taken away")

    def confirm_progress(self, sender: str) -> None:
        """Keep the progress that a worker has reported: it led to a result."""
        self._unconfirmed[sender] = 0

    def withdraw_progress(self, sender: str, monitor: Monitor) -> None:
        """Take back the progress that a worker has reported: its work is lost."""
        monitor.advance(-self._unconfirmed.pop(sender, 0))
