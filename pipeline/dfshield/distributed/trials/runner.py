"""The trials of a sweep, run by Ray Tune."""

import logging
import os
import uuid
from collections.abc import Callable

import ray
from ray import tune
from ray.tune import FailureConfig, RunConfig, TuneConfig

from dfshield.config import SweepConfig
from dfshield.distributed.cluster.head import Head
from dfshield.distributed.cluster.worker_plan import WorkerPlan
from dfshield.distributed.trials.search import scheduler_of, search_of
from dfshield.distributed.trials.sweep_driver import StopAll, SweepDriver, TrialEvents
from dfshield.distributed.trials.trainable import TrialArguments, trainable
from dfshield.errors import InputError
from dfshield.runs import Engine, Executor, Monitor
from dfshield.runs.sweep import Ended, Study, in_memory
from dfshield.storage import Folder

_QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # test metrics come with the last report alone
    "TUNE_FORCE_TRIAL_CLEANUP_S": "10",  # of a trial that does not end when it is stopped
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # which writes tables whatever the verbosity
}


def run_trials(
    study: Study,
    *,
    plan: WorkerPlan,
    fixed: bool,
    head: Head,
    engine: Engine,
    monitor: Monitor,
    storage: Folder,
    make_executor: Callable[..., Executor],
    max_retries: int,
    ended: Ended,
) -> None:
    """Run the trials of a sweep with Ray Tune; see `dfshield.runs.sweep.TrialRunner`.

    The folders of the trials hold all that has to survive. Tune's own files are of use to this call
    alone, so that nothing has to be unpickled from a user's folder.

    Args:
        study: the sweep.
        plan: what a worker takes, and how many fit.
        fixed: whether the capacity of the cluster will not grow.
        head: of the cluster.
        engine: how trials compute.
        monitor: of the sweep.
        storage: a folder that every node can write, for Tune's own files.
        make_executor: makes the executor of a trial that several workers share, in its process.
        max_retries: how often a trial whose process died is begun again.
        ended: called with the record of every trial that has ended.
    """
    sweep = study.config.sweep
    concurrent = _concurrent_trials(plan, sweep)
    _silence_tune()
    arguments = TrialArguments(
        config=study.config,
        root=study.root,
        sources={key: in_memory(source, ray.put) for key, source in study.sources.items()},
        engine=engine,
        plan=plan,
        workers=sweep.workers_per_trial,
        make_executor=make_executor,
        replan=study.replan,
    )
    driver = SweepDriver(study, head, monitor, ended)
    searcher, space, samples = search_of(study)
    grows = not fixed and arguments.workers == 1
    tune_config = TuneConfig(
        search_alg=searcher,
        scheduler=scheduler_of(study),
        num_samples=samples,
        max_concurrent_trials=sweep.max_concurrent if grows else concurrent,
        reuse_actors=arguments.workers == 1,
    )
    tuner = tune.Tuner(
        _with_resources(arguments),
        param_space=space,
        tune_config=tune_config,
        run_config=_run_config(driver, storage, max_retries),
    )
    driver.until_ended(tuner)


def _silence_tune() -> None:
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)


def _concurrent_trials(plan: WorkerPlan, sweep: SweepConfig) -> int:
    concurrent = min(plan.num_workers // sweep.workers_per_trial, sweep.max_concurrent or 10**6)
    if concurrent == 0:
        raise InputError(
            f"sweep.workers_per_trial: {sweep.workers_per_trial} wanted, but there is room for "
            f"{plan.format_workers()}"
        )
    return concurrent


def _run_config(driver: SweepDriver, storage: Folder, max_retries: int) -> RunConfig:
    return RunConfig(
        name=f"sweep-{uuid.uuid4().hex}",
        storage_path=storage.path,
        storage_filesystem=storage.filesystem,
        failure_config=FailureConfig(max_failures=max_retries),
        callbacks=[TrialEvents(driver.events)],
        stop=StopAll(driver.stopping),
        verbose=0,
    )


def _with_resources(arguments: TrialArguments) -> Callable[..., None]:
    """Return the trainable with what Tune reserves for a trial."""
    resources = {"cpu": arguments.plan.num_cpus or 0.01, "gpu": arguments.plan.num_gpus}
    if arguments.workers > 1:  # Ray Train reserves the GPUs of a group itself
        resources = {"cpu": 0.01}
    function = tune.with_parameters(trainable, arguments=arguments)
    reserving: Callable[..., None] = tune.with_resources(function, resources)
    return reserving
