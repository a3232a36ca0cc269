"""The workers of a pool as the driver knows them: starting them, and letting them go."""

from dataclasses import dataclass
from itertools import count
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from dfshield import __version__
from dfshield.distributed.cluster.capacity import Room
from dfshield.distributed.workers.messages import Letters
from dfshield.distributed.workers.worker import PoolWorker, WorkerInfo

# A trial of Ray Tune has a placement group, with no room for the workers that it starts.
_NO_GROUP: Any = None
_OUTSIDE = PlacementGroupSchedulingStrategy(_NO_GROUP)


@dataclass(eq=False)
class Member:
    """A worker as the driver knows it.

    Attributes:
        name: its own; the one that takes its place has another.
        actor: its handle.
        failed_starts: how many died, one in the place of the other, before it could start.
        late: whether it was not among the first, so that its node may not have been looked at.
        info: where it is, once it has started.
        leaving: whether its node is about to be taken away.
    """

    name: str
    actor: ActorHandle[Any]
    failed_starts: int = 0
    late: bool = False
    info: WorkerInfo | None = None
    leaving: bool = False

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return f"{self.name} on {self.info.host}" if self.info else self.name


class Members:
    """Workers on the GPUs or CPU slots of a cluster, which keep them until they are let go.

    Args:
        room: what each takes, and how many there is room for.
        letters: what they have to say.
    """

    def __init__(self, room: Room, letters: Letters) -> None:
        self.room = room
        self._letters = letters
        self._members: list[Member] = []
        self._numbers = count()

    @property
    def all(self) -> tuple[Member, ...]:
        """The workers there are."""
        return tuple(self._members)

    @property
    def staying(self) -> list[Member]:
        """The workers whose nodes are not about to be taken away."""
        return [member for member in self._members if not member.leaving]

    def fill(self, most: int) -> None:
        """Start workers until there are as many as there are to be, or ``most``."""
        self.room.head.wait()
        there = self.room.now()
        for number in range(len(self._members), min(most, self.room.num_workers())):
            self.add(late=number >= there)

    def add(self, *, failed_starts: int = 0, late: bool = True) -> Member:
        """Start a worker; Ray places it as soon as there is room."""
        self.room.head.wait()
        name = f"worker-{next(self._numbers)}"
        actor: Any = ray.remote(PoolWorker)
        handle = actor.options(
            num_gpus=self.room.plan.num_gpus,
            num_cpus=self.room.plan.num_cpus,
            max_restarts=0,  # a unit goes to whoever is free, not to whoever comes back
            max_task_retries=0,
            scheduling_strategy=_OUTSIDE,
        ).remote(name, self._letters.mailbox, __version__)
        member = Member(name, handle, failed_starts, late)
        self._members.append(member)
        return member

    def drop(self, member: Member) -> None:
        """Let go of one worker, dead or not."""
        ray.kill(member.actor)
        self._members.remove(member)

    def release(self) -> None:
        """Let go of all workers and their GPUs."""
        for member in self.all:
            self.drop(member)
