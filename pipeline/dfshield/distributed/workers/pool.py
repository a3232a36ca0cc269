"""The driver's side of the workers: hands out units, and begins again what dies with a worker."""

import time
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import ray

from dfshield.distributed.ray_internals import draining_nodes
from dfshield.distributed.workers.code_errors import CodeError, repeated
from dfshield.distributed.workers.lost_workers import reason_of
from dfshield.distributed.workers.messages import Letters
from dfshield.distributed.workers.pool_member import Member, Members
from dfshield.distributed.workers.work_queue import WorkQueue
from dfshield.distributed.workers.worker import JobTask, WorkerInfo
from dfshield.errors import DfshieldError, InputError
from dfshield.runs import Done, Engine, Job, Monitor, Task, raise_failures

POLL_S = 1.0
SECONDS_UNTIL_WAITING_IS_SAID = 30.0
SECONDS_BETWEEN_LOOKS = 3.0


@dataclass(frozen=True)
class _Call:
    """A call that is under way: of a unit, or (unit None) of ``prepare`` or ``info``."""

    member: Member
    unit: Any = None
    object_ref: object = None


class WorkerPool:
    """Workers on every GPU or CPU slot, kept from one task to the next until they are released.

    Args:
        members: the workers, none of which need have been started.
        letters: what the workers have to say.
        max_retries: how often a unit is begun again.
    """

    def __init__(self, members: Members, letters: Letters, *, max_retries: int) -> None:
        self._members = members
        self._letters = letters
        self._max_retries = max_retries

    def map(
        self,
        task: Task[Any, Any],
        groups: Sequence[Sequence[Hashable]],
        *,
        engine: Engine,
        monitor: Monitor,
    ) -> Iterator[Done[Any, Any]]:
        """Do every unit; see `dfshield.runs.Executor.map`."""
        queue = WorkQueue(groups, max_retries=self._max_retries)
        if not queue.unfinished:
            return
        self._members.fill(queue.unfinished)
        try:
            yield from _Pass(self._members, self._letters, task, queue, engine, monitor).run()
        except BaseException:
            self.release()  # they are in the middle of something
            raise

    def run(self, job: Job[Any], *, engine: Engine, monitor: Monitor) -> Any:
        """Do one job on one worker; see `dfshield.runs.Executor.run`."""
        (done,) = self.map(JobTask(job), [[0]], engine=engine, monitor=monitor)
        return done.result

    def release(self) -> None:
        """Let go of all workers and their GPUs."""
        self._members.release()


class _Pass:
    """One task and all its units: the loop around ``ray.wait``."""

    def __init__(
        self,
        members: Members,
        letters: Letters,
        task: Task[Any, Any],
        queue: WorkQueue[Any],
        engine: Engine,
        monitor: Monitor,
    ) -> None:
        self.members = members
        self.letters = letters
        self.task = task
        self.task_ref = ray.put(task)
        self.queue = queue
        self.engine = engine
        self.monitor = monitor
        self.calls: dict[ray.ObjectRef[Any], _Call] = {}
        self.failures: list[DfshieldError] = []
        self.refused = 0
        self.raised_before: set[tuple[Any, str]] = set()  # unit, origin of a `CodeError`
        self.last_news = self.last_look = time.monotonic()

    def run(self) -> Iterator[Done[Any, Any]]:
        for member in self.members.all:
            self.prepare(member)
        while self.queue.unfinished:
            ready = self.wait()
            self.letters.deliver(self.monitor)
            self.look_around()
            if not ready:
                self.say_if_nobody_works()
            for ref in ready:
                self.last_news = time.monotonic()
                done = self.ended(ref, self.calls.pop(ref))
                if done is not None:
                    yield done
        # Workers that are still starting stay, for the next task.
        for member in self.members.all:
            if member.leaving:
                self.members.drop(member)
        raise_failures(self.failures)

    def wait(self) -> "list[ray.ObjectRef[Any]]":
        """Return the calls that have ended within a second."""
        if not self.calls:  # every node is about to be taken away
            time.sleep(POLL_S)
            return []
        ready, _ = ray.wait(list(self.calls), timeout=POLL_S)
        return ready

    def look_around(self) -> None:
        """Take notice of nodes that are about to be taken away, and of room for more workers."""
        if time.monotonic() - self.last_look < SECONDS_BETWEEN_LOOKS:
            return
        self.last_look = time.monotonic()
        if not self.members.room.head.answers():
            return
        nodes = draining_nodes()
        for member in self.members.all:
            if member.info is not None and member.info.node in nodes and not member.leaving:
                member.leaving = True
                self.letters.node_leaves(
                    member.name,
                    member.info.node,
                    self.monitor,
                    place=member.place,
                    keeper=member.name,
                )
        wanted = min(self.members.room.num_workers() - self.refused, self.queue.unfinished)
        for _ in range(wanted - len(self.members.staying)):
            self.prepare(self.members.add())

    def prepare(self, member: Member) -> None:
        ref: ray.ObjectRef[Any] = member.actor.prepare.remote(self.task_ref, self.engine)
        self.calls[ref] = _Call(member)

    def hand_out(self, member: Member) -> None:
        if member.leaving and any(other.info for other in self.members.staying):
            self.queue.forget(member.name)
            self.members.drop(member)
            return
        unit = self.queue.take(member.name)
        if unit is not None:
            label = self.task.label(unit)
            self.monitor.emit("unit_started", worker=member.name, unit=label)
            refs: list[ray.ObjectRef[Any]] = member.actor.do.options(num_returns=2).remote(unit)
            result, object_ref = refs
            self.calls[result] = _Call(member, unit, object_ref)

    def ended(self, ref: "ray.ObjectRef[Any]", call: _Call) -> Done[Any, Any] | None:
        """Take up the end of a call, good or bad, and give its worker something to do."""
        try:
            value = ray.get(ref)
        except ray.exceptions.RayTaskError as error:
            self.raised(call, error)
            return None
        except ray.exceptions.RayError as error:
            self.died(call, reason_of(error))
            return None
        if call.unit is None:
            self.introduce(call.member, value)
            self.hand_out(call.member)
            return None
        result, has_object = value
        label = self.task.label(call.unit)
        self.monitor.emit("unit_done", worker=call.member.name, unit=label)
        self.letters.settle(call.member.name)
        self.queue.done(call.unit)
        self.hand_out(call.member)
        return Done(call.unit, result, call.object_ref if has_object else None, call.member.name)

    def introduce(self, member: Member, info: WorkerInfo) -> None:
        if member.info is None:
            member.info = info
            self.monitor.emit("worker_started", worker=member.name, **asdict(info))

    def raised(self, call: _Call, error: ray.exceptions.RayTaskError) -> None:
        """A worker lives but could not do what it was asked."""
        cause = error.cause
        if isinstance(cause, InputError) or (
            isinstance(cause, DfshieldError) and call.unit is None
        ):
            if not (call.unit is None and call.member.late and self.others_work(call.member)):
                raise cause
            self.refused += 1
            self.monitor.say(f"{call.member.name} cannot take part: {cause}; others go on")
            self.members.drop(call.member)
            return
        if isinstance(cause, DfshieldError):
            self.give_up(call.member, call.unit, cause)
            self.letters.withdraw(call.member.name, self.monitor)
            self.queue.done(call.unit)
            self.hand_out(call.member)
            return
        self.monitor.emit("worker_error", worker=call.member.name, error=str(error))
        # Whatever it was may have left the process, or its GPU, in a bad state.
        origin = cause.origin if isinstance(cause, CodeError) else None
        again = origin is not None and (call.unit, origin) in self.raised_before
        if origin is not None:
            self.raised_before.add((call.unit, origin))
        self.died(call, reason_of(error), again=again)

    def others_work(self, member: Member) -> bool:
        """Return whether any other worker has started well."""
        return any(other.info for other in self.members.all if other is not member)

    def died(self, call: _Call, reason: str, *, again: bool = False) -> None:
        """Give the unit of a lost worker to others, and put a new worker in its place.

        ``again``: another worker has raised the same error, so that a third would raise it too.
        """
        member, unit = call.member, call.unit
        label = None if unit is None else self.task.label(unit)
        self.monitor.emit("worker_lost", worker=member.name, unit=label, reason=reason)
        self.letters.withdraw(member.name, self.monitor)
        self.queue.forget(member.name)
        self.members.drop(member)
        if unit is None:
            if again and not self.others_work(member):
                raise DfshieldError(f"workers cannot start: {repeated(reason)}")
            if not member.leaving:
                self.start_again(member, reason)
            return
        if again:
            self.queue.done(unit)
            self.give_up(member, unit, DfshieldError(f"{label}: {repeated(reason)}"))
        elif self.queue.put_back(unit, counted=not member.leaving):
            self.monitor.retried()
            self.monitor.emit("unit_retried", unit=label)
            self.monitor.say(f"{member.place} was lost ({reason}); {label} is begun again")
            self.wake_idle()
        else:
            tried = f"given up after {self.queue.max_retries} retries"
            self.give_up(member, unit, DfshieldError(f"{label}: {tried}: {reason}"))
        if not member.leaving:
            self.prepare(self.members.add())

    def give_up(self, member: Member, unit: Any, error: DfshieldError) -> None:
        """Set a unit aside; the work goes on with the others."""
        self.failures.append(error)
        label = self.task.label(unit)
        self.monitor.emit("unit_failed", worker=member.name, unit=label, reason=str(error))

    def start_again(self, member: Member, reason: str) -> None:
        """Put another in the place of a worker that had no unit, finitely often."""
        # One that had started before did its work until its node, say, was lost.
        failed_starts = 0 if member.info else member.failed_starts + 1
        if failed_starts <= self.queue.max_retries:
            self.prepare(self.members.add(failed_starts=failed_starts))
        elif self.members.all:
            self.refused += 1
            self.monitor.say(f"{member.name} dies whenever it starts ({reason}); others go on")
        else:
            raise DfshieldError(f"workers die as they start: {reason}")

    def wake_idle(self) -> None:
        """Give what came back to workers that ran out of units.

        They are called first: one that died idle, with its node, must not cost the unit a try.
        """
        busy = {call.member.name for call in self.calls.values()}
        for member in self.members.all:
            if member.name not in busy:
                ref: ray.ObjectRef[Any] = member.actor.info.remote()
                self.calls[ref] = _Call(member)

    def say_if_nobody_works(self) -> None:
        if (
            self.queue.in_flight
            or time.monotonic() - self.last_news < SECONDS_UNTIL_WAITING_IS_SAID
        ):
            return
        self.last_news = time.monotonic()
        self.monitor.say("Waiting for a worker: Ray has no room for one, or is still starting it")
