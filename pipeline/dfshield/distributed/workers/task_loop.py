"""The driver's loop around ``ray.wait``: assigns units to workers and retries lost ones."""

import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import ray

from dfshield.distributed.intervals import CLUSTER_CHECK_S, WAITING_NOTICE_S
from dfshield.distributed.ray_internals import draining_nodes
from dfshield.distributed.workers.code_errors import CodeError, format_repeated
from dfshield.distributed.workers.lost_workers import reason_of
from dfshield.distributed.workers.messages import MessageReader
from dfshield.distributed.workers.work_queue import WorkQueue
from dfshield.distributed.workers.worker import WorkerInfo
from dfshield.distributed.workers.worker_handles import Call, PoolWorkerHandle, PoolWorkers
from dfshield.engine.acceleration import CompilationError
from dfshield.errors import DfshieldError, InputError, OtherDeviceError, UnfitDeviceError
from dfshield.runs import Done, Engine, Monitor, Task, raise_failures


class TaskLoop:
    """One task and all its units on the workers of a pool.

    Ray's ``ActorPool`` survives neither the death of a worker nor that of a node.

    Args:
        workers: of the pool.
        reader: of their messages.
        task: what they do.
        queue: the units, and how often each may be tried.
        engine: how the workers compute.
        monitor: of the run.
    """

    def __init__(
        self,
        workers: PoolWorkers,
        reader: MessageReader,
        task: Task[Any, Any],
        queue: WorkQueue[Any],
        engine: Engine,
        monitor: Monitor,
    ) -> None:
        self.workers = workers
        self.reader = reader
        self.task = task
        self.task_ref = ray.put(task)
        self.queue = queue
        self.engine = engine
        self.monitor = monitor
        self.calls: dict[ray.ObjectRef[Any], Call] = {}
        self.failures: list[DfshieldError] = []
        self.refused = 0  # workers that could not start and are not replaced
        self.raised_before: set[tuple[Any, str | None]] = set()  # unit, origin of a `CodeError`
        self.last_result = self.last_check = time.monotonic()

    def run(self) -> Iterator[Done[Any, Any]]:
        """Yield every unit that is done.

        Raises:
            InputError: as soon as a unit raises one.
            DfshieldError: at the end, if units could not be done.
        """
        for worker in self.workers.all:
            self.prepare(worker)
        while self.queue.unfinished:
            ready = self.workers.ended_calls(self.calls)
            self.reader.deliver(self.monitor)
            self.check_cluster()
            if not ready:
                self.say_if_waiting()
            for ref in ready:
                if not self.queue.unfinished:  # what is left are workers that have started
                    break
                self.last_result = time.monotonic()
                done = self.finish_call(ref, self.calls.pop(ref))
                if done is not None:
                    yield done
        # Workers that are still starting stay, for the next task.
        for worker in self.workers.all:
            if worker.draining:
                self.workers.drop(worker)
        raise_failures(self.failures)

    def check_cluster(self) -> None:
        """Notify workers whose nodes drain, and start workers where the cluster has grown."""
        if time.monotonic() - self.last_check < CLUSTER_CHECK_S:
            return
        self.last_check = time.monotonic()
        if not self.workers.capacity.head.answers():
            return
        nodes = draining_nodes()
        for worker in self.workers.all:
            if worker.info is not None and worker.info.node in nodes and not worker.draining:
                worker.draining = True
                self.reader.announce_draining(
                    worker.name,
                    worker.info.node,
                    self.monitor,
                    place=worker.place,
                    notify=worker.name,
                )
        wanted = min(self.workers.num_wanted() - self.refused, self.queue.unfinished)
        for _ in range(wanted - len(self.workers.staying)):
            self.prepare(self.workers.add())

    def prepare(self, worker: PoolWorkerHandle) -> None:
        """Let a worker load what the task needs."""
        ref: ray.ObjectRef[Any] = worker.actor.prepare.remote(self.task_ref, self.engine)
        self.calls[ref] = Call(worker)

    def assign(self, worker: PoolWorkerHandle) -> None:
        """Give a worker its next unit, unless its node drains and another worker can do it."""
        if worker.draining and any(other.info for other in self.workers.staying):
            self.queue.forget(worker.name)
            self.workers.drop(worker)
            return
        unit = self.queue.take(worker.name)
        if unit is not None:
            label = self.task.label(unit)
            self.monitor.emit("unit_started", worker=worker.name, unit=label)
            refs: list[ray.ObjectRef[Any]] = worker.actor.do.options(num_returns=2).remote(unit)
            result, object_ref = refs
            self.calls[result] = Call(worker, unit, object_ref)

    def finish_call(self, ref: "ray.ObjectRef[Any]", call: Call) -> Done[Any, Any] | None:
        """Take the result or the error of a call, and give its worker something to do."""
        try:
            value = ray.get(ref)
        except ray.exceptions.RayTaskError as error:
            self.handle_error(call, error)
            return None
        except ray.exceptions.RayError as error:
            self.replace_worker(call, reason_of(error))
            return None
        if call.unit is None:
            self.register(call.worker, value)
            if call.worker in self.workers.all:
                self.assign(call.worker)
            return None
        result, has_object = value
        label = self.task.label(call.unit)
        self.monitor.emit("unit_done", worker=call.worker.name, unit=label)
        self.reader.confirm_progress(call.worker.name)
        self.workers.gpus.note_success(call.worker.gpu)
        self.queue.done(call.unit)
        self.assign(call.worker)
        return Done(call.unit, result, call.object_ref if has_object else None, call.worker.name)

    def register(self, worker: PoolWorkerHandle, info: WorkerInfo) -> None:
        """Note where a worker is that has started; one on a GPU that is out gets no work."""
        if worker.info is None:
            worker.info, worker.gpu = info, info.uuid
            if self.workers.gpus.is_out(worker.gpu) and self.others_work(worker):
                self.workers.bench(worker)
                return
            self.monitor.emit("worker_started", worker=worker.name, **asdict(info))

    def handle_error(self, call: Call, error: ray.exceptions.RayTaskError) -> None:
        """Handle the error of a worker that is still alive."""
        cause, starts = error.cause, call.unit is None
        if isinstance(cause, OtherDeviceError) or (isinstance(cause, CompilationError) and starts):
            self.keep_out_for_good(call.worker, cause)
            return
        if isinstance(cause, UnfitDeviceError):
            call.worker.gpu = call.worker.gpu or cause.gpu
            self.replace_worker(call, str(cause), alive=True)
            return
        if isinstance(cause, InputError) or (isinstance(cause, DfshieldError) and starts):
            if not (starts and call.worker.late and self.others_work(call.worker)):
                raise cause
            self.refused += 1
            self.monitor.say(f"{call.worker.name} cannot take part: {cause}; others go on")
            self.workers.drop(call.worker)
            return
        if isinstance(cause, DfshieldError):
            self.give_up(call.worker, call.unit, cause)
            self.reader.withdraw_progress(call.worker.name, self.monitor)
            self.queue.done(call.unit)
            self.assign(call.worker)
            return
        self.monitor.emit("worker_error", worker=call.worker.name, error=str(error))
        # The error may have left the process, or its GPU, in a bad state.
        origin = cause.origin if isinstance(cause, CodeError) else None
        self.replace_worker(call, reason_of(error), origin=origin, alive=True)

    def others_work(self, worker: PoolWorkerHandle) -> bool:
        """Return whether any other worker has started."""
        return any(other.info for other in self.workers.all if other is not worker)

    def replace_worker(
        self, call: Call, reason: str, *, origin: str | None = None, alive: bool = False
    ) -> None:
        """Put the unit of a lost worker back into the queue, and start another worker.

        Args:
            call: the last of the lost worker.
            reason: why it was lost.
            origin: of the error that it raised, which a third worker would raise too if it is that
                of a second one; None where the process or its GPU was lost.
            alive: whether the process still holds its GPU.
        """
        worker, unit = call.worker, call.unit
        label = None if unit is None else self.task.label(unit)
        self.monitor.emit("worker_lost", worker=worker.name, unit=label, reason=reason)
        self.reader.withdraw_progress(worker.name, self.monitor)
        self.queue.forget(worker.name)
        again = origin is not None and (unit, origin) in self.raised_before
        self.raised_before.add((unit, origin))
        kept_out = origin is None and self.keep_out(worker, unit)
        benched = kept_out and alive
        self.workers.bench(worker) if benched else self.workers.drop(worker)
        if unit is None:
            if again and not self.others_work(worker):
                raise DfshieldError(f"workers cannot start: {format_repeated(reason)}")
            if not worker.draining and not benched:
                self.restart(worker, reason)
            return
        if again:
            self.queue.done(unit)
            why = format_repeated(reason, origin)
            self.give_up(worker, unit, DfshieldError(f"{label}: {why}"))
        elif self.queue.put_back(unit, counted=not worker.draining and not kept_out):
            self.monitor.retried()
            self.monitor.emit("unit_retried", unit=label)
            self.monitor.say(f"{worker.place} was lost ({reason}); {label} is begun again")
            self.wake_idle()
        else:
            tried = f"given up after {self.queue.max_retries} retries"
            self.give_up(worker, unit, DfshieldError(f"{label}: {tried}: {reason}"))
        if not worker.draining and not benched:
            self.prepare(self.workers.add())

    def keep_out(self, worker: PoolWorkerHandle, unit: Any) -> bool:
        """Note a failure of a worker's GPU; return whether it gets no more work, if others do."""
        gpus = self.workers.gpus
        gpus.note_failure(worker.gpu, unit)
        self.workers.end_bench()
        if not gpus.is_out(worker.gpu) or not self.others_work(worker):
            return False
        for failed in gpus.failures(worker.gpu)[:-1]:
            if failed is not None:
                self.queue.forgive(failed)
        self.monitor.emit("gpu_kept_out", worker=worker.name, gpu=worker.gpu)
        self.monitor.say(f"{worker.place}: its GPU has failed twice and gets no more work")
        return True

    def keep_out_for_good(self, worker: PoolWorkerHandle, error: DfshieldError) -> None:
        """Let a worker that never computes as the work was begun hold its GPU; the others go on.

        Raises:
            DfshieldError: the error, if there is no other.
        """
        worker.gpu = worker.gpu or getattr(error, "gpu", worker.name)
        self.workers.bench_other(worker)
        self.monitor.emit("gpu_kept_out", worker=worker.name, gpu=worker.gpu, reason=str(error))
        if not self.workers.all and self.workers.num_wanted() <= self.refused:
            self.workers.free_others()
            raise error
        self.monitor.say(f"{worker.name} cannot take part: {error}; others go on")

    def give_up(self, worker: PoolWorkerHandle, unit: Any, error: DfshieldError) -> None:
        """Note that a unit cannot be done; the work goes on with the others."""
        self.failures.append(error)
        label = self.task.label(unit)
        self.monitor.emit("unit_failed", worker=worker.name, unit=label, reason=str(error))

    def restart(self, worker: PoolWorkerHandle, reason: str) -> None:
        """Start a replacement for a worker that died without a unit, finitely often."""
        # A worker that had started before may have died with its node, which is no failed start.
        failed_starts = 0 if worker.info else worker.failed_starts + 1
        if failed_starts <= self.queue.max_retries:
            self.prepare(self.workers.add(failed_starts=failed_starts))
        elif self.workers.all:
            self.refused += 1
            self.monitor.say(f"{worker.name} dies whenever it starts ({reason}); others go on")
        else:
            raise DfshieldError(f"workers die as they start: {reason}")

    def wake_idle(self) -> None:
        """Call the workers that had no unit left, since one was put back.

        The call tells whether they are alive: one that died with its node while it was idle must
        not cost the unit a try.
        """
        busy = {call.worker.name for call in self.calls.values()}
        for worker in self.workers.all:
            if worker.name not in busy:
                ref: ray.ObjectRef[Any] = worker.actor.info.remote()
                self.calls[ref] = Call(worker)

    def say_if_waiting(self) -> None:
        """Tell the user if no worker has had a unit for a while."""
        if self.queue.in_flight or time.monotonic() - self.last_result < WAITING_NOTICE_S:
            return
        self.last_result = time.monotonic()
        self.monitor.say("Waiting for a worker: Ray has no room for one, or is still starting it")
