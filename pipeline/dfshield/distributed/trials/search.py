"""Which settings the trials of a sweep try, and which of them are stopped early."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from dfshield.config import AxisConfig
from dfshield.errors import InputError
from dfshield.runs.sweep import (
    Study,
    TrialRecord,
    Values,
    epochs_of,
    make_trial,
    measure_of,
    metrics_of_search,
    scores_of,
    standing_of,
    training_seeds,
    trial_folder,
)
from dfshield.seeds import RngStream, derived_seed
from dfshield.storage import Folder

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


def search_of(study: Study) -> tuple[Searcher | None, dict[str, Any], int]:
    """Return Tune's searcher or None, its search space and the number of samples.

    The ``point`` of a trial is a JSON text with the values of the swept keys and the seed.
    """
    if study.config.sweep.search in ("grid", "random"):
        points = [_point(trial.values, trial.seed) for trial in study.trials]
        return None, {"point": tune.grid_search(points)}, 1
    return TPESearch(study), {}, study.num_trials


def _point(values: Values, seed: int) -> str:
    return json.dumps({"values": dict(values), "seed": seed})


class TPESearch(Searcher):
    """Optuna's tree-structured Parzen estimator; several metrics are a Pareto search.

    Every setting it draws is trained with all seeds, and judged by the means of its metrics. Trials
    of earlier commands that have ended are its history; those that were begun it suggests first.
    (Tune's own searcher for Optuna takes no history of several metrics.)

    Args:
        study: the sweep.

    Raises:
        InputError: if Optuna is not installed.
    """

    def __init__(self, study: Study) -> None:
        try:
            import optuna
        except ModuleNotFoundError:
            raise InputError(
                f"sweep.search: {study.config.sweep.search} needs Optuna: pip install optuna"
            ) from None
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._metrics = metrics_of_search(study.config, study.records)
        super().__init__()
        self._config = study.config
        self._seeds = training_seeds(study.config)
        self._space = {k: _distribution(a) for k, a in study.config.sweep.axes.items()}
        ended = [record for record in study.records if record.ended]
        self._study = optuna.create_study(
            directions=["maximize"] * len(self._metrics),
            sampler=optuna.samplers.TPESampler(
                seed=derived_seed(study.config.seed, RngStream.SWEEP, len(ended))
            ),
        )
        self._open: dict[str, tuple[Any, int]] = {}
        self._scores: dict[int, list[list[Any]]] = defaultdict(list)
        self._waiting: list[tuple[Any, int]] = []
        self._left: dict[int, int] = {}
        self._recall(study.records)

    def _recall(self, records: Iterable[TrialRecord]) -> None:
        """Add the settings that have ended with all seeds to the history; queue the others."""
        from optuna.trial import TrialState, create_trial

        groups: dict[str, list[TrialRecord]] = defaultdict(list)
        for record in records:
            groups[json.dumps(record.values, sort_keys=True)].append(record)
        for group in groups.values():
            values = group[0].values
            ended = [record for record in group if record.ended]
            scores = [s for r in ended if (s := scores_of(r, self._metrics, self._config))]
            missing = set(self._seeds) - {record.seed for record in ended}
            if not missing:
                self._study.add_trial(
                    create_trial(
                        params=values,
                        distributions=self._space,
                        values=_means(scores) if scores else None,
                        state=TrialState.COMPLETE if scores else TrialState.FAIL,
                    )
                )
                continue
            self._study.enqueue_trial(values)
            drawn = self._study.ask(self._space)
            self._scores[drawn.number] += scores
            self._queue(drawn, [seed for seed in self._seeds if seed in missing])

    def _queue(self, drawn: Any, seeds: Sequence[int]) -> None:
        self._waiting += [(drawn, seed) for seed in seeds]
        self._left[drawn.number] = len(seeds)

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """Return the next setting and seed."""
        if not self._waiting:
            self._queue(self._study.ask(self._space), self._seeds)
        drawn, seed = self._waiting.pop(0)
        self._open[trial_id] = (drawn, seed)
        # With the types of the configuration: 1.0 and not 1.
        trial = make_trial(self._config, drawn.params, seed)
        return {"point": _point(trial.values, seed)}

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        """Note the metrics of a trial; a setting is judged when all its seeds have ended."""
        from optuna.trial import TrialState

        drawn, _ = self._open.pop(trial_id)
        reached = [(result or {}).get(metric) for metric in self._metrics]
        if not error and None not in reached:
            self._scores[drawn.number].append(
                [float(score) for score in reached if score is not None]
            )
        self._left[drawn.number] -= 1
        if self._left[drawn.number]:
            return
        scores = self._scores.pop(drawn.number)
        if scores:
            self._study.tell(drawn, _means(scores))
        else:
            self._study.tell(drawn, state=TrialState.FAIL)

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the folders of the trials hold the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing."""


def _means(scores: Sequence[Sequence[float]]) -> list[float]:
    return [fmean(of_metric) for of_metric in zip(*scores, strict=True)]


def _distribution(axis: AxisConfig) -> "BaseDistribution":
    from optuna import distributions

    if axis.grid is not None:
        return distributions.CategoricalDistribution(axis.grid)
    low, high = axis.ends
    if axis.randint is not None:
        return distributions.IntDistribution(low, high)
    return distributions.FloatDistribution(low, high, log=axis.loguniform is not None)


def scheduler_of(study: Study) -> TrialScheduler:
    """Return Tune's scheduler; trials of earlier commands count as those of this one."""
    sweep = study.config.sweep
    if sweep.scheduler == "none":
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    epochs = study.config.training.epochs
    scheduler = AsyncHyperBandScheduler(
        time_attr="epoch",
        metric=measure_of(study.config).name,
        mode="max",
        max_t=epochs,
        grace_period=sweep.grace_epochs,
        reduction_factor=sweep.reduction_factor,
    )
    for record in study.records:
        if record.ended:
            _replay(scheduler, record, study)
    return scheduler


def _replay(scheduler: AsyncHyperBandScheduler, record: TrialRecord, study: Study) -> None:
    stand_in: Any = SimpleNamespace(trial_id=record.name)
    controller: Any = None  # which the scheduler does not use
    scheduler.on_trial_add(controller, stand_in)
    for epoch in epochs_of(trial_folder(Folder.at(study.root), record.name)):
        result = {"epoch": epoch["epoch"] + 1, **standing_of(epoch)}
        scheduler.on_trial_result(controller, stand_in, result)
    scheduler.on_trial_remove(controller, stand_in)
