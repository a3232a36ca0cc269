"""What the trials of a sweep are judged by."""

import json
from collections.abc import Iterable
from statistics import fmean

from dfshield.config import Config
from dfshield.errors import InputError
from dfshield.results import AGREEMENT_CLEAN, AGREEMENT_PGD
from dfshield.runs.inputs.attack_plans import attacks_of
from dfshield.runs.sweep.cases import comparable
from dfshield.runs.sweep.measure import measure_of
from dfshield.runs.sweep.plan import Values
from dfshield.runs.sweep.record import TrialRecord, standing
from dfshield.training import MEASURES

CLEAN = "clean"


def metric_of(config: Config, records: Iterable[TrialRecord]) -> str:
    """Return the metric that the recommended setting is chosen by.

    Args:
        config: of the sweep.
        records: of its trials, as far as they were begun.
    """
    sweep = config.sweep
    if sweep.metric is not None:
        return sweep.metric
    if sweep.select_on == "holdout":
        return shown_measure(config, records)
    attacks = attacks_of(config)
    return attacks[-1].label if attacks else CLEAN


def shown_measure(config: Config, records: Iterable[TrialRecord]) -> str:
    """Return the hold-out measure that all finished students have.

    Those of earlier releases have none but the agreements, and were chosen by that under PGD.
    """
    measure = measure_of(config).name
    done = [record.holdout for record in records if record.state == "done" and record.holdout]
    return measure if all(measure in holdout for holdout in done) else AGREEMENT_PGD


def metrics_of_search(config: Config, records: Iterable[TrialRecord] = ()) -> tuple[str, ...]:
    """Return what a sampler is to make large: one metric, or clean and robust."""
    metric = metric_of(config, records)
    if config.sweep.search != "tpe-pareto":
        return (metric,)
    return (AGREEMENT_CLEAN if config.sweep.select_on == "holdout" else CLEAN, metric)


def check_metric(config: Config) -> None:
    """Refuse a metric that no trial will have.

    Raises:
        InputError: naming those there are.
    """
    known: tuple[str, ...] = tuple(MEASURES)
    if config.sweep.select_on == "test":
        known = (CLEAN, *(attack.label for attack in attacks_of(config)))
    metric = metric_of(config, ())
    if metric not in known:
        raise InputError(
            f"sweep.metric: {metric!r} is not measured with select_on "
            f"{config.sweep.select_on}; known: {', '.join(known)}"
        )
    if config.sweep.search == "tpe-pareto" and len(set(metrics_of_search(config))) < 2:
        raise InputError("sweep.metric: search tpe-pareto needs a robust metric beside clean")


def scores_of(record: TrialRecord, metrics: Iterable[str], config: Config) -> list[float] | None:
    """Return a trial's metrics, 0 if its student has collapsed; None if it lacks one."""
    measured = record.test if config.sweep.select_on == "test" else record.holdout
    found = standing(measured, collapsed=record.collapsed)
    scores = [found.get(metric) for metric in metrics]
    return [score for score in scores if score is not None] if None not in scores else None


class BestSoFar:
    """Follows which setting is ahead, by the mean over its seeds.

    Args:
        config: of the sweep.
        records: of the trials that have ended.
    """

    def __init__(self, config: Config, records: Iterable[TrialRecord]) -> None:
        self._config = config
        self._done: list[TrialRecord] = []
        for record in records:
            self.add(record)

    def add(self, record: TrialRecord) -> None:
        """Take a trial that has ended into account."""
        if record.state == "done":
            self._done.append(record)

    @property
    def metric(self) -> str:
        """What settings are compared by."""
        return metric_of(self._config, self._done)

    def best(self) -> tuple[Values, float] | None:
        """Return the values of the setting that is ahead and its score, or None.

        A reference is not ahead of what is data-free; where settings are answers to different
        questions, none is ahead.
        """
        if not comparable(self._config.sweep):
            return None
        scores = self._keeping_clean(self._means(self.metric))
        if not scores:
            return None
        values = max(scores, key=lambda key: scores[key])
        return json.loads(values), scores[values]

    def _keeping_clean(self, scores: dict[str, float]) -> dict[str, float]:
        """Return those of the settings whose clean figure is not below the bound, if there is one.

        Those without a clean figure are not known to be below.
        """
        sweep = self._config.sweep
        share = sweep.recommend.keep_clean
        if share is None:
            return scores
        clean = self._means(CLEAN if sweep.select_on == "test" else AGREEMENT_CLEAN)
        if not clean:
            return scores
        least = round(share * max(clean.values()), 9)
        return {
            key: score for key, score in scores.items() if round(clean.get(key, 1.0), 9) >= least
        }

    def _means(self, metric: str) -> dict[str, float]:
        """Return the mean of a metric over the seeds of every setting that may be ahead."""
        found: dict[str, list[float]] = {}
        for record in self._done:
            scores = scores_of(record, [metric], self._config)
            rivals = record.data_free or not self._config.data_free
            if rivals and not record.collapsed and scores:
                found.setdefault(json.dumps(record.values), []).extend(scores)
        return {values: fmean(scores) for values, scores in found.items()}

    def summary(self) -> str:
        """Return it in words; empty if there is none."""
        best = self.best()
        if best is None:
            return ""
        return f"best {self.metric} {best[1]:.1%}: {format_values(best[0])}"


def format_values(values: Values) -> str:
    """Return values of swept keys in words, as ``tau=0.3 num_batches=20``."""
    return " ".join(f"{key.rsplit('.', 1)[-1]}={value}" for key, value in values.items())
