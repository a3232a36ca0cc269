"""What every worker of a training group runs: the training function of Ray Train."""

import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import ray
import torch
from ray.actor import ActorHandle
from ray.train.torch import get_device
from ray.util.placement_group import get_current_placement_group

from dfshield.distributed.training.group_gpus import GroupGpu, why_not_together
from dfshield.distributed.workers.code_errors import CodeError, format_repeated
from dfshield.distributed.workers.device import limit_compilers, wait_for_memory
from dfshield.distributed.workers.message_queue import RemoteMonitor
from dfshield.distributed.workers.worker import get, naming_this_machine, worker_info
from dfshield.errors import DfshieldError, OtherDeviceError, UnfitDeviceError
from dfshield.runs import Engine, GroupJob, GroupWorker, Reproducibility, SilentMonitor
from dfshield.training import TorchWorkerGroup

GROUP_STARTED = "group_started"
"""The event that names the placement group of a training group."""


@dataclass(frozen=True)
class TrainArguments:
    """The arguments of `train_function`, the same for all workers.

    Attributes:
        job: what the group does.
        engine: how it computes.
        queue: handle of the `MessageQueue`.
    """

    job: GroupJob
    engine: Engine
    queue: ActorHandle[Any]


def train_function(config: Mapping[str, Any]) -> None:
    """Do one worker's share of a job.

    Args:
        config: Ray Train's, with the `TrainArguments` under ``arguments``.

    Raises:
        DfshieldError: as the job raised it, or for an error that an earlier group raised too.
        CodeError: for any other error of the job; Ray Train then starts the group again.
    """
    arguments: TrainArguments = config["arguments"]
    job, engine, queue = arguments.job, arguments.engine, arguments.queue
    group = TorchWorkerGroup()
    if any(group.all_gather(ray.get(queue.stopping.remote()))):
        return  # asked to stop, or the group before this one ended with an error of the job
    rank = group.rank
    device = get_device() if engine.device == "cuda" else torch.device(engine.device)
    remote = RemoteMonitor(queue, f"rank-{rank}")
    remote.emit("worker_started", worker=f"rank-{rank}", **asdict(worker_info(device)))
    if rank == 0:
        _report_start(remote, group.size, before=ray.get(queue.started.remote(group.size)))
    engine.bind()
    limit_compilers(engine)
    worker = GroupWorker(
        device=device,
        monitor=remote if rank == 0 else SilentMonitor(),
        group=group,
        get=get,
        report=_report,
        stop_requested=lambda: rank == 0 and ray.get(queue.stopping.remote()),
        preempted=remote.preempted,
    )
    try:
        engine.require_accelerator()
        _require_gpus(group, device)
        wait_for_memory(device)
        with Reproducibility(engine, remote, f"rank-{rank}").watched(), naming_this_machine():
            job.run(worker)
    except DfshieldError as error:
        if isinstance(error, UnfitDeviceError) and not isinstance(error, OtherDeviceError):
            raise CodeError(str(error), None) from error  # another try may find another GPU
        ray.get(queue.fail.remote(error))
        raise  # so that Ray Train ends the other workers, which wait for this one
    except Exception as error:
        known = CodeError.of(error)
        remote.emit("worker_error", worker=f"rank-{rank}", error=traceback.format_exc())
        if known.origin is None or not ray.get(queue.raised.remote(known.origin)):
            raise known from error
        repeated = format_repeated(known.reason, known.origin)
        final = DfshieldError(f"the training failed: {repeated}")
        ray.get(queue.fail.remote(final))
        raise final from error
    remote.flush()


def _require_gpus(group: TorchWorkerGroup, device: torch.device) -> None:
    """Check the GPUs of a group, of which every worker is told.

    Raises:
        DfshieldError: if they cannot train together.
    """
    if device.type == "cuda":
        problem = why_not_together(group.all_gather(GroupGpu.of(device)))
        if problem:
            raise DfshieldError(problem)


def _report_start(monitor: RemoteMonitor, size: int, *, before: int) -> None:
    """Report that a group has started, and why if another, of size ``before``, had started."""
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
