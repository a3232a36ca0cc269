"""What the trials of a sweep are judged by."""

import json
from collections.abc import Iterable
from statistics import fmean

from dfshield.config import Config
from dfshield.errors import InputError
from dfshield.results import AGREEMENT_CLEAN, AGREEMENT_PGD
from dfshield.runs.inputs.attack_plans import attacks_of
from dfshield.runs.sweep.cases import comparable
from dfshield.runs.sweep.plan import Values
from dfshield.runs.sweep.record import TrialRecord

CLEAN = "clean"


def metric_of(config: Config) -> str:
    """Return the metric that the recommended setting is chosen by."""
    sweep = config.sweep
    if sweep.metric is not None:
        return sweep.metric
    if sweep.select_on == "holdout":
        return AGREEMENT_PGD
    attacks = attacks_of(config)
    return attacks[-1].label if attacks else CLEAN


def metrics_of_search(config: Config) -> tuple[str, ...]:
    """Return what a sampler is to make large: one metric, or clean and robust."""
    if config.sweep.search != "tpe-pareto":
        return (metric_of(config),)
    if config.sweep.select_on == "holdout":
        return (AGREEMENT_CLEAN, AGREEMENT_PGD)
    return (CLEAN, metric_of(config))


def check_metric(config: Config) -> None:
    """Refuse a metric that no trial will have.

    Raises:
        InputError: naming those there are.
    """
    known: tuple[str, ...] = (AGREEMENT_PGD, AGREEMENT_CLEAN)
    if config.sweep.select_on == "test":
        known = (CLEAN, *(attack.label for attack in attacks_of(config)))
    if metric_of(config) not in known:
        raise InputError(
            f"sweep.metric: {metric_of(config)!r} is not measured with select_on "
            f"{config.sweep.select_on}; known: {', '.join(known)}"
        )
    if config.sweep.search == "tpe-pareto" and len(set(metrics_of_search(config))) < 2:
        raise InputError("sweep.metric: search tpe-pareto needs a robust metric beside clean")


def scores_of(record: TrialRecord, metrics: Iterable[str], config: Config) -> list[float] | None:
    """Return a trial's metrics; None if it lacks one."""
    found = record.test if config.sweep.select_on == "test" else record.holdout
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
        self._scores: dict[str, list[float]] = {}
        for record in records:
            self.add(record)

    def add(self, record: TrialRecord) -> None:
        """Take a trial that has ended into account."""
        scores = scores_of(record, [metric_of(self._config)], self._config)
        rivals = record.data_free or not self._config.data_free
        if record.state == "done" and rivals and not record.collapsed and scores:
            self._scores.setdefault(json.dumps(record.values), []).extend(scores)

    def best(self) -> tuple[Values, float] | None:
        """Return the values of the setting that is ahead and its score, or None.

        A reference is not ahead of what is data-free; where settings are answers to different
        questions, none is ahead.
        """
        if not self._scores or not comparable(self._config.sweep):
            return None
        values, scores = max(self._scores.items(), key=lambda item: fmean(item[1]))
        return json.loads(values), fmean(scores)

    def summary(self) -> str:
        """Return it in words; empty if there is none."""
        best = self.best()
        if best is None:
            return ""
        return f"best {metric_of(self._config)} {best[1]:.1%}: {format_values(best[0])}"


def format_values(values: Values) -> str:
    """Return values of swept keys in words, as ``tau=0.3 num_batches=20``."""
    return " ".join(f"{key.rsplit('.', 1)[-1]}={value}" for key, value in values.items())
