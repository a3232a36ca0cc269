"""The worker group of the training: Ray Train's, without its gradient averaging."""

import os
import uuid
from typing import Any

from ray import train
from ray.train import WorkerGroupError
from ray.train.torch import TorchTrainer

from dfshield.distributed.cluster.head import Head
from dfshield.distributed.cluster.network_interface import GroupTorchConfig
from dfshield.distributed.cluster.worker_plan import WorkerPlan
from dfshield.distributed.training.group_driver import FitThread, GroupDriver
from dfshield.distributed.training.train_function import TrainArguments, train_function
from dfshield.distributed.workers.lost_workers import LostWorkersCallback, reason_of_group
from dfshield.distributed.workers.messages import MessageReader
from dfshield.errors import DfshieldError
from dfshield.runs import Engine, GroupJob, Monitor, deferred_interrupt
from dfshield.storage import Folder

# To type checkers, what ray.train exports is its first version.
_train: Any = train
# Ray Train looks at its workers this often; an epoch's report waits for the next look.
HEALTH_CHECK_S = 0.2
# Ray Train notices a lost node after 20 s at most; until then it waits for its GPUs in vain.
PLACEMENT_TIMEOUT_S = 20
SECONDS_BETWEEN_RESIZES = 60.0


def run_group(
    job: GroupJob,
    *,
    plan: WorkerPlan,
    min_workers: int,
    engine: Engine,
    head: Head,
    reader: MessageReader,
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
        reader: of the workers' messages.
        monitor: of the run.
        storage: a folder that every node can write, for Ray Train's own files.
        max_retries: how often the group is started again.

    Raises:
        DfshieldError: if the job failed, or the group was lost too often.
    """
    reader.ask("reset")
    fit = FitThread(
        _trainer(TrainArguments(job, engine, reader.queue), plan, min_workers, storage, max_retries)
    )
    with deferred_interrupt() as stop:
        fit.start()
        try:
            GroupDriver(head, reader, monitor, stop).until_ended(fit)
        except BaseException:
            if head.answers():  # without the head nothing can be killed
                fit.abort(reader)
            raise
    failure: Exception | None = reader.ask("failure")
    if failure is not None:
        raise failure
    if stop.requested:
        raise KeyboardInterrupt
    if not fit.finished:
        tried = f", after {max_retries} retries" if isinstance(fit.error, WorkerGroupError) else ""
        reason = reason_of_group(fit.error)
        raise DfshieldError(f"the training group was lost{tried}: {reason}") from fit.error


def _trainer(
    arguments: TrainArguments,
    plan: WorkerPlan,
    min_workers: int,
    storage: Folder,
    max_retries: int,
) -> TorchTrainer:
    """Return Ray Train's trainer of a group."""
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", str(HEALTH_CHECK_S))
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(PLACEMENT_TIMEOUT_S))
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    return TorchTrainer(
        train_function,
        train_loop_config={"arguments": arguments},
        # What lies on the CPU, as objects do, is sent from there.
        torch_config=GroupTorchConfig(
            backend="cpu:gloo,cuda:nccl" if arguments.engine.device == "cuda" else "gloo"
        ),
        scaling_config=_train.ScalingConfig(
            # The student does not depend on the number: a node that is lost is not waited for.
            # One that joins is used, at the price of going back to the last checkpoint.
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
            callbacks=[LostWorkersCallback(arguments.queue)],
        ),
    )


def _sizes(least: int, most: int) -> int | tuple[int, int]:
    """Return the sizes of a group as Ray Train takes them.

    A group of one fixed size does not use Ray's coordinator of elastic ones, which keeps the
    requests of a group that was killed for three minutes: too long for the trials of a sweep.
    """
    return most if least == most else (least, most)
