"""What the process of a trial runs: the trainable of Ray Tune."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ray import tune

from dfshield.config import Config
from dfshield.distributed.cluster.worker_plan import WorkerPlan
from dfshield.distributed.workers.worker import get
from dfshield.runs import Engine, Executor, InProcessExecutor
from dfshield.runs.sweep import (
    Source,
    make_trial,
    run_trial,
    source_key,
    standing,
    standing_of,
    trial_folder,
)
from dfshield.storage import Folder


@dataclass(frozen=True)
class TrialArguments:
    """The arguments that all trials of a sweep share; Tune sends them to each node once.

    Attributes:
        config: of the sweep.
        root: its folder.
        sources: the teachers and images of the trials, by `source_key`.
        engine: how trials compute.
        plan: what a worker takes.
        workers: how many workers share a trial.
        make_executor: makes the executor of a trial that several workers share.
        replan: whether trials that were begun under another engine go on under this one.
    """

    config: Config
    root: str
    sources: Mapping[str, Source]
    engine: Engine
    plan: WorkerPlan
    workers: int
    make_executor: Callable[..., Executor]
    replan: bool


class _TrialExecutor(InProcessExecutor):
    """Works in the process of a trial, with the engine of the sweep."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def engine(self) -> Engine:
        """Return the engine that all trials share."""
        return self._engine

    def get(self, ref: object) -> Any:
        """Return a part of the images, from the memory of the node that holds it."""
        return get(ref)


def trainable(config: Mapping[str, Any], arguments: TrialArguments) -> None:
    """Do one trial: the function that Tune runs."""
    point = json.loads(config["point"])
    trial = make_trial(arguments.config, point["values"], point["seed"])
    root = Folder.at(arguments.root)
    epochs = trial.config.training.epochs

    def on_epoch(done: int, metrics: Mapping[str, Any]) -> None:
        if done < epochs:  # the last one is reported with the result: no scheduler may stop it
            tune.report({"epoch": done, **standing_of(metrics)})

    record = run_trial(
        trial,
        arguments.sources[source_key(trial.config)],
        root=root,
        executor=_executor(arguments, trial_folder(root, trial.name)),
        on_epoch=on_epoch,
        replan=arguments.replan,
    )
    reached = standing({**record.holdout, **record.test}, collapsed=record.collapsed)
    tune.report({"epoch": epochs, "state": record.state, **reached})


def _executor(arguments: TrialArguments, folder: Folder) -> Executor:
    if arguments.workers == 1:
        return _TrialExecutor(arguments.engine)
    return arguments.make_executor(
        folder=folder,
        num_workers=arguments.workers,
        min_workers=arguments.workers,
        planned=(replace(arguments.plan, num_workers=arguments.workers), arguments.engine),
    )
