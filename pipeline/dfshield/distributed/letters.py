"""The driver's side of the mailbox: what workers say reaches the run's monitor."""

from collections import Counter
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from dfshield.distributed.mailbox import Letter, Mailbox
from dfshield.runs import Monitor

MONITOR_METHODS = frozenset({"begin", "advance", "detail", "retried", "end", "say", "emit"})


class Letters:
    """Starts the mailbox beside the driver and reads its letters to a monitor.

    Attributes:
        mailbox: the actor that workers write to.
    """

    def __init__(self) -> None:
        here = ray.get_runtime_context().get_node_id()
        actor: Any = ray.remote(Mailbox)
        self.mailbox: ActorHandle[Any] = actor.options(
            num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False)
        ).remote()
        self._unsettled: Counter[str] = Counter()

    def deliver(self, monitor: Monitor) -> bool:
        """Read out what has come in since the last time; return whether there was anything."""
        letters: list[Letter] = ray.get(self.mailbox.collect.remote())
        for letter in letters:
            if letter.method not in MONITOR_METHODS:
                continue
            if letter.method == "advance":
                self._unsettled[letter.sender] += letter.arguments[0]
            getattr(monitor, letter.method)(*letter.arguments, **letter.fields)
        return bool(letters)

    def settle(self, sender: str) -> None:
        """The progress that a worker told of has led to a result."""
        self._unsettled[sender] = 0

    def withdraw(self, sender: str, monitor: Monitor) -> None:
        """The progress that a worker told of is lost with it."""
        monitor.advance(-self._unsettled.pop(sender, 0))
