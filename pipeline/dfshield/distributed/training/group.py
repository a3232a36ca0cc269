"""The worker group of the training: Ray Train's, without its gradient averaging."""

import os
import threading
import time
import traceback
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import ray
import torch
from ray import train
from ray.actor import ActorHandle
from ray.train import TrainingFailedError, WorkerGroupError
from ray.train.torch import TorchTrainer, get_device
from ray.util.placement_group import get_current_placement_group

from dfshield.distributed.cluster.head import Head
from dfshield.distributed.cluster.network_interface import GroupTorchConfig
from dfshield.distributed.cluster.worker_plan import WorkerPlan
from dfshield.distributed.ray_internals import draining_nodes, kill_train_controllers
from dfshield.distributed.workers.code_errors import CodeError, repeated
from dfshield.distributed.workers.lost_workers import GroupLosses, reason_of_group
from dfshield.distributed.workers.message_queue import Letter, RemoteMonitor
from dfshield.distributed.workers.messages import Letters
from dfshield.distributed.workers.pool import (
    POLL_S,
    SECONDS_BETWEEN_LOOKS,
    SECONDS_UNTIL_WAITING_IS_SAID,
)
from dfshield.distributed.workers.worker import get, worker_info
from dfshield.errors import DfshieldError
from dfshield.runs import (
    Engine,
    GroupJob,
    GroupWorker,
    Monitor,
    SilentMonitor,
    StopRequest,
    deferred_interrupt,
)
from dfshield.storage import Folder
from dfshield.training import TorchWorkerGroup

# To type checkers, what ray.train exports is its first version.
_train: Any = train
# Ray Train looks at its workers this often; an epoch's report waits for the next look.
HEALTH_CHECK_S = 0.2
# Ray Train hears of a lost node after 20 s at most; until then it waits for its GPUs in vain.
PLACEMENT_TIMEOUT_S = 20
SECONDS_TO_ABANDON = 10.0
SECONDS_BETWEEN_RESIZES = 60.0
GROUP_STARTED = "group_started"


@dataclass(frozen=True)
class _Membership:
    """What every worker of the group is handed."""

    job: GroupJob
    engine: Engine
    mailbox: ActorHandle[Any]


def _work(config: Mapping[str, Any]) -> None:
    """Do one worker's share: the training function of Ray Train."""
    membership: _Membership = config["membership"]
    job, engine, mailbox = membership.job, membership.engine, membership.mailbox
    group = TorchWorkerGroup()
    if any(group.all_gather(ray.get(mailbox.stopping.remote()))):
        return  # asked to stop, or bound to fail as the group before this one
    rank = group.rank
    remote = RemoteMonitor(mailbox, f"rank-{rank}")
    remote.emit("worker_started", worker=f"rank-{rank}", **asdict(worker_info()))
    if rank == 0:
        _tell_of_start(remote, group.size, before=ray.get(mailbox.started.remote(group.size)))
    engine.bind()
    worker = GroupWorker(
        device=get_device() if engine.device == "cuda" else torch.device(engine.device),
        monitor=remote if rank == 0 else SilentMonitor(),
        group=group,
        get=get,
        report=_report,
        stop_requested=lambda: rank == 0 and ray.get(mailbox.stopping.remote()),
        preempted=remote.preempted,
    )
    try:
        job.run(worker)
    except DfshieldError as error:
        # Raised again, so that the other workers do not wait for this one in vain.
        ray.get(mailbox.fail.remote(error))
        raise
    except Exception as error:
        known = CodeError.of(error)
        remote.emit("worker_error", worker=f"rank-{rank}", error=traceback.format_exc())
        if known.origin is None or not ray.get(mailbox.raised.remote(known.origin)):
            raise known from error
        final = DfshieldError(f"the training failed: {repeated(known.reason)}")
        ray.get(mailbox.fail.remote(final))
        raise final from error
    remote.flush()


def _tell_of_start(monitor: RemoteMonitor, size: int, *, before: int) -> None:
    """Tell of a group, and say why it was started again if this is not the first time."""
    placement = get_current_placement_group()
    if placement is not None:
        monitor.emit(GROUP_STARTED, placement_group=placement.id.hex())
    if before and size > before:
        monitor.say(f"More room: the training goes on with {size} workers")
    elif before:
        monitor.retried()
        monitor.say("A training worker was lost; the group goes on from the last checkpoint")


def _report(metrics: Mapping[str, Any]) -> None:
    ray.train.report(dict(metrics))


def run_group(
    job: GroupJob,
    *,
    plan: WorkerPlan,
    min_workers: int,
    engine: Engine,
    head: Head,
    letters: Letters,
    monitor: Monitor,
    storage: Folder,
    max_retries: int,
) -> None:
    """Do a job with a Ray Train worker group; see `dfshield.runs.Executor.run_group`.

    Args:
        job: it resumes from its own checkpoints when the group is started again.
        plan: how many workers at most, and what each takes.
        min_workers: with how many it may begin, or go on.
        engine: how they compute.
        head: of the cluster.
        letters: what they have to say.
        monitor: who is told.
        storage: a folder that every node can write, for Ray Train's own files.
        max_retries: how often the group is started again.

    Raises:
        DfshieldError: if the job failed, or the group was lost too often.
    """
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", str(HEALTH_CHECK_S))
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(PLACEMENT_TIMEOUT_S))
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    letters.ask("reset")
    trainer = TorchTrainer(
        _work,
        train_loop_config={"membership": _Membership(job, engine, letters.mailbox)},
        torch_config=GroupTorchConfig(backend="nccl" if engine.device == "cuda" else "gloo"),
        scaling_config=_train.ScalingConfig(
            # Any number gives the same student: a node that is lost is not waited for. One that
            # joins is used, at the price of going back to the last checkpoint.
            num_workers=_sizes(min_workers, plan.num_workers),
            elastic_resize_monitor_interval_s=SECONDS_BETWEEN_RESIZES,
            use_gpu=plan.num_gpus > 0,
            resources_per_worker={"CPU": plan.num_cpus, "GPU": plan.num_gpus},
        ),
        run_config=_train.RunConfig(
            name=f"group-{uuid.uuid4().hex}",  # never one that Ray Train could take as finished
            storage_path=storage.path,
            storage_filesystem=storage.filesystem,
            failure_config=_train.FailureConfig(max_failures=max_retries),
            callbacks=[GroupLosses(letters.mailbox)],
        ),
    )
    fit = _Fit(trainer)
    with deferred_interrupt() as stop:
        fit.start()
        try:
            _Watch(head, letters, monitor, stop).until_ended(fit)
        except BaseException:
            if head.answers():  # else nobody is left who could be told
                fit.abandon(letters)
            raise
    failure: Exception | None = letters.ask("failure")
    if failure is not None:
        raise failure
    if stop.requested:
        raise KeyboardInterrupt
    if not fit.finished:
        tried = f", after {max_retries} retries" if isinstance(fit.error, WorkerGroupError) else ""
        reason = reason_of_group(fit.error)
        raise DfshieldError(f"the training group was lost{tried}: {reason}") from fit.error


def _sizes(least: int, most: int) -> int | tuple[int, int]:
    """A group of one size needs nothing of Ray's coordinator of elastic ones.

    That one keeps for three minutes what a group that was killed has asked for: too long for the
    trials of a sweep.
    """
    return most if least == most else (least, most)


class _Fit(threading.Thread):
    """``TorchTrainer.fit`` in a thread, so that the main one hears of letters and signals."""

    def __init__(self, trainer: TorchTrainer) -> None:
        super().__init__(name="dfshield-train", daemon=True)
        self._trainer = trainer
        self.finished = False
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self._trainer.fit()
        except (TrainingFailedError, ray.exceptions.RayError) as error:
            self.error = error
        else:
            self.finished = True

    def abandon(self, letters: Letters) -> None:
        """End the group and the thread: one that waits for Ray when it is left ends the process."""
        deadline = time.monotonic() + SECONDS_TO_ABANDON
        while self.is_alive() and time.monotonic() < deadline:
            kill_train_controllers(letters.mailbox)
            self.join(POLL_S)


class _Watch:
    """The driver beside a group at work: passes on what its workers, Ray and the user say."""

    def __init__(self, head: Head, letters: Letters, monitor: Monitor, stop: StopRequest) -> None:
        self.head = head
        self.letters = letters
        self.monitor = monitor
        self.stop = stop
        self.begun = self.told_to_stop = False
        self.waiting_since: float | None = time.monotonic()  # None while the group is at work
        self.nodes: dict[str, str] = {}  # of the workers that have started
        self.warned_of: set[str] = set()
        self.last_look = time.monotonic()

    def until_ended(self, fit: _Fit) -> None:
        """Return when the group has ended, well or not.

        Raises:
            KeyboardInterrupt: if it is to be stopped before any worker has started.
            DfshieldError: if the cluster is gone.
        """
        while fit.is_alive():
            fit.join(POLL_S)
            for letter in self.letters.deliver(self.monitor):
                self.heard(letter)
            self.look_around()
            self.say_if_waiting()
            if self.stop.requested and not self.begun:
                raise KeyboardInterrupt
            if self.stop.requested and not self.told_to_stop:
                self.told_to_stop = True
                self.letters.mailbox.stop.remote()
                self.monitor.say("Stopping after this update; once more stops at once")
        self.letters.deliver(self.monitor)

    def heard(self, letter: Letter) -> None:
        self.begun = True
        event = letter.arguments[0] if letter.method == "emit" else None
        if event == "worker_started":
            self.waiting_since = None
            self.nodes[letter.fields["worker"]] = letter.fields["node"]
        elif event == "worker_lost":
            self.waiting_since = time.monotonic()
            self.nodes.clear()  # the group starts again

    def look_around(self) -> None:
        """Take notice of nodes that are about to be taken away."""
        if time.monotonic() - self.last_look < SECONDS_BETWEEN_LOOKS:
            return
        self.last_look = time.monotonic()
        if not self.head.answers():
            return
        leaving = draining_nodes() - self.warned_of
        for worker, node in self.nodes.items():
            if node in leaving:
                self.warned_of.add(node)
                self.letters.node_leaves(worker, node, self.monitor, place=worker, keeper="rank-0")

    def say_if_waiting(self) -> None:
        now = time.monotonic()
        if (
            self.waiting_since is not None
            and now - self.waiting_since > SECONDS_UNTIL_WAITING_IS_SAID
        ):
            self.waiting_since = now
            self.monitor.say(
                "Waiting for training workers: Ray has no room, or is still starting them"
            )
