"""The driver's side of the mailbox: what workers say reaches the run's monitor."""

import os
from collections import Counter
from functools import cached_property
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from dfshield.distributed.workers.message_queue import Letter, Mailbox
from dfshield.errors import DfshieldError
from dfshield.runs import Monitor


class Letters:
    """Reads what workers write to the mailbox to a monitor."""

    def __init__(self) -> None:
        # Ray would print the errors of lost workers, which the driver reports itself.
        os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
        self._unsettled: Counter[str] = Counter()

    @cached_property
    def mailbox(self) -> ActorHandle[Any]:
        """The actor that workers write to, beside the driver; it is started for the first."""
        here = ray.get_runtime_context().get_node_id()
        actor: Any = ray.remote(Mailbox)
        started: ActorHandle[Any] = actor.options(
            num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False)
        ).remote()
        return started

    def deliver(self, monitor: Monitor) -> list[Letter]:
        """Read out what has come in since the last time, and return it.

        Raises:
            DfshieldError: if the mailbox is lost.
        """
        letters: list[Letter] = self.ask("collect")
        for letter in letters:
            if letter.method == "advance":
                self._unsettled[letter.sender] += letter.arguments[0]
            getattr(monitor, letter.method)(*letter.arguments, **letter.fields)
        return letters

    def ask(self, method: str) -> Any:
        """Call a method of the mailbox.

        Raises:
            DfshieldError: if the mailbox is lost.
        """
        try:
            return ray.get(getattr(self.mailbox, method).remote())
        except ray.exceptions.RayActorError:
            raise DfshieldError(
                "the process that hears from the workers was killed; what was committed is kept: "
                "give the same command again"
            ) from None

    def node_leaves(
        self, worker: str, node: str, monitor: Monitor, *, place: str, keeper: str
    ) -> None:
        """Tell that a worker's node is about to be taken away, also to who keeps its state."""
        self.mailbox.preempt.remote(keeper)
        monitor.emit("node_leaving", worker=worker, node=node)
        monitor.say(f"{place}: the node is about to be taken away")

    def settle(self, sender: str) -> None:
        """The progress that a worker told of has led to a result."""
        self._unsettled[sender] = 0

    def withdraw(self, sender: str, monitor: Monitor) -> None:
        """The progress that a worker told of is lost with it."""
        monitor.advance(-self._unsettled.pop(sender, 0))
