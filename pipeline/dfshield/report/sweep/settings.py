"""Trials pooled over their seeds, and which pair of figures a sweep is judged by."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from statistics import fmean, stdev
from typing import Any, Literal

from dfshield.report.scores import format_eps, format_norm, format_points
from dfshield.report.sweep.axes import NUM_BATCHES, TAU, as_number, identity
from dfshield.report.sweep.trials import SweepData, SweepTrial
from dfshield.results import AGREEMENT_CLEAN, WORST_OF


@dataclass(frozen=True)
class Measure:
    """A figure that every trial may have.

    Attributes:
        source: ``holdout``: agreement with the teacher on synthetic images; ``test``: accuracy on
            real ones.
        key: what it is called in the trial.
        title: for people, ``"AutoAttack l_inf 8/255"``.
    """

    source: Literal["holdout", "test"]
    key: str
    title: str

    @property
    def heading(self) -> str:
        """The title with where it was measured, unless on real images."""
        return self.title if self.source == "test" else f"{self.title}, synthetic hold-out"

    @property
    def unit(self) -> str:
        """What a percentage of it means."""
        if self.source == "test":
            return "accuracy on real test images"
        return "agreement with the teacher, synthetic hold-out"


@dataclass(frozen=True)
class Pooled:
    """A figure in [0, 1] over the seeds of one setting."""

    per_seed: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return fmean(self.per_seed)

    @property
    def spread(self) -> float | None:
        """Sample standard deviation over the seeds; None for a single seed."""
        return stdev(self.per_seed) if len(self.per_seed) > 1 else None

    @property
    def words(self) -> str:
        """Mean and spread in percent: ``"61.2 ± 1.4"``."""
        spread = "" if self.spread is None else f" ± {format_points(self.spread)}"
        return f"{format_points(self.mean)}{spread}"


@dataclass(frozen=True)
class Setting:
    """The trials of one combination of swept values, one per seed.

    Attributes:
        values: swept key to value.
        trials: one per seed.
        repeats: an earlier combination gives the same students, whatever they are trained on.
        below_bound: its clean figure is too low for it to be recommended; see `CleanBound`.
    """

    values: Mapping[str, Any]
    trials: tuple[SweepTrial, ...]
    repeats: bool = False
    below_bound: bool = False

    @property
    def done(self) -> tuple[SweepTrial, ...]:
        """The trials that ran to their end: only these count in a mean."""
        return tuple(trial for trial in self.trials if trial.state == "done")

    @property
    def complete(self) -> bool:
        """Every seed ran to its end."""
        return len(self.done) == len(self.trials)

    @property
    def data_free(self) -> bool:
        """No real image was trained on."""
        return all(trial.data_free for trial in self.trials)

    @property
    def collapsed(self) -> bool:
        """At least one seed gave a student that answers one class."""
        return any(trial.collapsed for trial in self.trials)

    @property
    def floor(self) -> float | None:
        """Accuracy of the best constant classifier, in [0, 1]."""
        return next((trial.floor for trial in self.trials if trial.floor is not None), None)

    def figure(self, measure: Measure) -> Pooled | None:
        """Return the figure over the seeds that are done, None without any."""
        figures = (trial.figure(measure.source, measure.key) for trial in self.done)
        known = tuple(value for value in figures if value is not None)
        return Pooled(known) if known else None

    def at(self, key: str) -> Hashable:
        """Return the value of a swept key as something to compare by."""
        return identity(self.values.get(key))


@dataclass(frozen=True)
class CleanBound:
    """What the clean figure of a recommended setting must be at least.

    Attributes:
        measure: the clean figure, from where settings are chosen.
        share: of the best setting's.
        least: the bound, in [0, 1].
    """

    measure: Measure
    share: float
    least: float


def clean_bound(data: SweepData, settings: Sequence[Setting]) -> CleanBound | None:
    """Return the bound that a sweep asks for, None if it asks for none or nothing is known."""
    measure = clean_measure(data)
    figures = [figure.mean for one in candidates(settings) if (figure := one.figure(measure))]
    if data.keep_clean is None or not figures:
        return None
    return CleanBound(measure, data.keep_clean, data.keep_clean * max(figures))


def candidates(settings: Iterable[Setting]) -> list[Setting]:
    """Return the settings that can be recommended at all.

    Every seed is done and none collapsed; references only where there is nothing else.
    """
    known = list(settings)
    rivals = [setting for setting in known if setting.data_free] or known
    return [setting for setting in rivals if setting.complete and not setting.collapsed]


def settings_of(data: SweepData) -> tuple[Setting, ...]:
    """Return the settings in the order in which their first trials were planned."""
    settings = _grouped(data)
    bound = clean_bound(data, settings)
    if bound is None:
        return settings
    return tuple(
        replace(setting, below_bound=round(figure.mean - bound.least, 9) < 0)
        if (figure := setting.figure(bound.measure))
        else setting
        for setting in settings
    )


def _grouped(data: SweepData) -> tuple[Setting, ...]:
    groups: dict[tuple[Hashable, ...], list[SweepTrial]] = {}
    for trial in data.trials:
        key = tuple(identity(trial.values.get(path)) for path in data.parameters)
        groups.setdefault(key, []).append(trial)
    settings, known = [], set()
    for trials in groups.values():
        effect = _effect(data, trials[0].values)
        settings.append(Setting(trials[0].values, tuple(trials), repeats=effect in known))
        known.add(effect)
    return tuple(settings)


def _effect(data: SweepData, values: Mapping[str, Any]) -> tuple[Hashable, ...]:
    """Return what a combination does: τ stands for the thresholds that it sets.

    Of k mini-batches ``ceil(tau k)`` must agree (equation 10), and one always does; the last group
    of an epoch may have any k up to K. At K = 1 every τ does the same.
    """
    at = {**data.settings, **values}
    tau, most = as_number(at.get(TAU)), as_number(at.get(NUM_BATCHES))
    kept = [identity(values.get(key)) for key in data.parameters if key != TAU]
    if tau is None or most is None:
        return (*kept, identity(values.get(TAU)))
    share = Fraction(str(tau))
    return (*kept, *(max(1, ceil(share * k)) for k in range(1, int(most) + 1)))


def judged_by(data: SweepData) -> tuple[Measure, Measure]:
    """Return the clean and the robust figure that pictures show.

    With test figures: accuracy on unchanged images and under the attack that leaves the least on
    average. Without: the agreements with the teacher on the synthetic hold-out.
    """
    attack = _strongest(data.trials)
    if attack is None:
        return holdout_measures(data)
    return test_measure(data, "clean"), test_measure(data, attack)


def measures_of(data: SweepData) -> tuple[Measure, ...]:
    """Return everything measured on real images, clean first; the hold-out's where nothing was.

    The worst of several attacks is none of its own.
    """
    found = [label for trial in data.trials if trial.state == "done" for label in trial.test]
    labels = dict.fromkeys(label for label in found if not label.startswith(WORST_OF))
    ordered = sorted(labels, key=lambda label: label != "clean")
    return tuple(test_measure(data, label) for label in ordered) or holdout_measures(data)


def holdout_measures(data: SweepData) -> tuple[Measure, Measure]:
    """Return the clean and the robust figure on the synthetic hold-out."""
    return _on_holdout(data, AGREEMENT_CLEAN), _on_holdout(data, data.measure)


def _on_holdout(data: SweepData, key: str) -> Measure:
    return Measure("holdout", key, data.titles.get(key, key))


def test_measure(data: SweepData, label: str) -> Measure:
    """Return accuracy under an attack as a measure, titled by its label and threat."""
    if label == "clean":
        return Measure("test", label, "Clean accuracy")
    norm = format_norm(data.threat.get("norm"))
    eps = "at the ε of each setting" if data.eps_swept else format_eps(data.threat["eps"])
    return Measure("test", label, f"{label} {norm} {eps}")


def clean_measure(data: SweepData) -> Measure:
    """Return the clean figure from where settings are chosen."""
    return holdout_measures(data)[0] if data.select_on == "holdout" else test_measure(data, "clean")


def chosen_by(data: SweepData) -> Measure:
    """Return the figure that the setting is chosen by."""
    if data.select_on == "test":
        return test_measure(data, data.metric)
    return _on_holdout(data, data.metric)


def _strongest(trials: Sequence[SweepTrial]) -> str | None:
    """Return the attack with the lowest mean, of those that were run most often beside clean."""
    accuracies: dict[str, list[float]] = {}
    for trial in trials:
        if trial.state == "done" and trial.figure("test", "clean") is not None:
            for label in _attacks(trial):
                accuracies.setdefault(label, []).append(trial.test[label])
    most = max((len(values) for values in accuracies.values()), default=0)
    means = {label: fmean(v) for label, v in accuracies.items() if len(v) == most}
    return min(means, key=lambda label: means[label]) if means else None


def _attacks(trial: SweepTrial) -> Iterable[str]:
    return (k for k in trial.test if k != "clean" and trial.figure("test", k) is not None)
