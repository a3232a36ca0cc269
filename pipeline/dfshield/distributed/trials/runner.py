"""The trials of a sweep as those of Ray Tune: who runs them, when they end, what is told."""

import json
import logging
import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray import tune
from ray.tune import FailureConfig, RunConfig, TuneConfig

from dfshield.config import Config
from dfshield.distributed.cluster.head import Head
from dfshield.distributed.cluster.worker_plan import WorkerPlan
from dfshield.distributed.trials.search import scheduler_of, search_of
from dfshield.distributed.trials.watch import StopAll, Told, Watch
from dfshield.distributed.workers.worker import get
from dfshield.errors import InputError
from dfshield.runs import Engine, Executor, InProcessExecutor, Monitor
from dfshield.runs.sweep import (
    Ended,
    Source,
    Study,
    agreements,
    in_memory,
    make_trial,
    run_trial,
    source_key,
    trial_folder,
)
from dfshield.storage import Folder

_QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # test metrics come with the last report alone
    "TUNE_FORCE_TRIAL_CLEANUP_S": "10",  # of a trial that does not end when it is stopped
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # which writes tables whatever the verbosity
}


@dataclass(frozen=True)
class _Handout:
    """What every trial is handed, once per node."""

    config: Config
    root: str
    sources: Mapping[str, Source]
    engine: Engine
    plan: WorkerPlan
    workers: int
    make_executor: Callable[..., Executor]
    replan: bool


class _TrialExecutor(InProcessExecutor):
    """Works in the process of a trial, under the sweep's engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def engine(self) -> Engine:
        """Return the engine of all trials."""
        return self._engine

    def get(self, ref: object) -> Any:
        """Return a part of the images, from the memory of the node that holds it."""
        return get(ref)


def _work(config: Mapping[str, Any], handout: _Handout) -> None:
    """Do one trial: the function that Tune runs."""
    point = json.loads(config["point"])
    trial = make_trial(handout.config, point["values"], point["seed"])
    root = Folder.at(handout.root)
    epochs = trial.config.training.epochs

    def on_epoch(done: int, metrics: Mapping[str, Any]) -> None:
        if done < epochs:  # the last one is told with the end, which a scheduler must not prevent
            tune.report({"epoch": done, **agreements(metrics)})

    record = run_trial(
        trial,
        handout.sources[source_key(trial.config)],
        root=root,
        executor=_executor(handout, trial_folder(root, trial.name)),
        on_epoch=on_epoch,
        replan=handout.replan,
    )
    tune.report(
        {"epoch": epochs, "state": record.state, **agreements(record.holdout), **record.test}
    )


def _executor(handout: _Handout, folder: Folder) -> Executor:
    if handout.workers == 1:
        return _TrialExecutor(handout.engine)
    return handout.make_executor(
        folder=folder,
        num_workers=handout.workers,
        min_workers=handout.workers,
        planned=(replace(handout.plan, num_workers=handout.workers), handout.engine),
    )


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

    All that has to survive lies in the folders of the trials: Tune's own files are of use to this
    call alone, so nothing has to be unpickled from a user's folder.

    Args:
        study: what is to be done.
        plan: what a worker takes, and how many there is room for.
        fixed: whether there will be no more room than that.
        head: of the cluster.
        engine: how trials compute.
        monitor: who is told.
        storage: a folder that every node can write, for Tune's own files.
        make_executor: makes the executor of a trial that several workers share, in its process.
        max_retries: how often a trial whose process died is begun again.
        ended: told of every trial that has ended.
    """
    sweep = study.config.sweep
    at_once = min(plan.num_workers // sweep.workers_per_trial, sweep.max_concurrent or 10**6)
    if at_once == 0:
        raise InputError(
            f"sweep.workers_per_trial: {sweep.workers_per_trial} wanted, but there is room for "
            f"{plan.workers_told()}"
        )
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    handout = _Handout(
        config=study.config,
        root=study.root,
        sources={key: in_memory(source, ray.put) for key, source in study.sources.items()},
        engine=engine,
        plan=plan,
        workers=sweep.workers_per_trial,
        make_executor=make_executor,
        replan=study.replan,
    )
    watch = Watch(study, head, monitor, ended)
    searcher, space, samples = search_of(study)
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(_work, handout=handout), _resources(plan, handout.workers)
        ),
        param_space=space,
        tune_config=TuneConfig(
            search_alg=searcher,
            scheduler=scheduler_of(study),
            num_samples=samples,
            max_concurrent_trials=at_once if fixed or handout.workers > 1 else sweep.max_concurrent,
            reuse_actors=handout.workers == 1,
        ),
        run_config=RunConfig(
            name=f"sweep-{uuid.uuid4().hex}",
            storage_path=storage.path,
            storage_filesystem=storage.filesystem,
            failure_config=FailureConfig(max_failures=max_retries),
            callbacks=[Told(watch.news)],
            stop=StopAll(watch.stopping),
            verbose=0,
        ),
    )
    watch.until_ended(tuner)


def _resources(plan: WorkerPlan, workers: int) -> dict[str, float]:
    """Return what Tune reserves for a trial; the workers of a group reserve theirs themselves."""
    if workers > 1:
        return {"cpu": 0.01}
    return {"cpu": plan.num_cpus or 0.01, "gpu": plan.num_gpus}
