"""Which setting is recommended and why, and whether what it was chosen by can be trusted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dfshield.report.scores import ADVICE, format_percent, format_points
from dfshield.report.sweep.settings import (
    CleanBound,
    Measure,
    Pooled,
    Setting,
    candidates,
    chosen_by,
    clean_bound,
    clean_measure,
    holdout_measures,
    judged_by,
    settings_of,
)
from dfshield.report.sweep.trials import SweepData

EPS_CAUTION = "A smaller ε is an easier attack: figures at different ε do not compare"


@dataclass(frozen=True)
class Recommendation:
    """The setting to use.

    Attributes:
        values: swept key to value.
        score: mean of the selection metric over the seeds, in [0, 1].
        spread: its sample standard deviation; None for a single seed.
        num_seeds: how many trials the mean is over.
        margin: how far the next best setting lies below, in [0, 1]; None if there is none.
        on_front: whether no other setting is better in clean and robust figure at once; None where
            it lacks one of them.
        why: the reasons in plain sentences.
    """

    values: Mapping[str, Any]
    score: float
    spread: float | None
    num_seeds: int
    margin: float | None
    on_front: bool | None
    why: str


@dataclass(frozen=True)
class ProxyAgreement:
    """How well the synthetic hold-out ranked the settings, against real test images.

    Attributes:
        spearman: rank correlation in [-1, 1].
        kendall: Kendall's tau-b, in [-1, 1].
        num_settings: how many settings both figures are known of.
        proxy: the figure on the synthetic hold-out.
        real: the figure on real test images.
        lost: how far the setting that the proxy ranks first lies below the best one in the real
            figure, in [0, 1]. Collapsed settings are not ranked first.
    """

    spearman: float
    kendall: float
    num_settings: int
    proxy: Measure
    real: Measure
    lost: float | None


def recommend(data: SweepData) -> Recommendation | None:
    """Return the setting with the highest mean over seeds of the selection metric, None if none is.

    Only settings count of which every seed is done and none collapsed, and whose clean figure is
    not below the bound, if there is one; references only where there is nothing else. Where
    settings do not compare, none is recommended. Ties go to the higher clean figure from where the
    metric is from (hold-out or test), then to the earlier setting.
    """
    metric = chosen_by(data)
    settings = settings_of(data)
    ranked = _ranked(candidates(settings), metric, clean_measure(data))
    if not ranked or not data.comparable:
        return None
    best, figure = ranked[0]
    margin = figure.mean - ranked[1][1].mean if len(ranked) > 1 else None
    pair = judged_by(data)
    front = front_of(data, pair)
    on_front = (best in front) if all(best.figure(m) for m in pair) else None
    sentences = [
        _said_score(metric, figure, data.select_on == "test"),
        _said_margin(margin, figure),
        _said_bound(clean_bound(data, settings), settings),
        _said_front(on_front, pair),
        _said_floor(best),
        f"{EPS_CAUTION}." if data.eps_swept else "",
    ]
    return Recommendation(
        values=best.values,
        score=figure.mean,
        spread=figure.spread,
        num_seeds=len(figure.per_seed),
        margin=margin,
        on_front=on_front,
        why=" ".join(sentence for sentence in sentences if sentence),
    )


def proxy_agreement(data: SweepData) -> ProxyAgreement | None:
    """Return how the hold-out ranked the settings, against the robust figure on real images.

    None where it cannot be computed: fewer than three settings with both, constant figures, or
    settings that do not compare.
    """
    real = judged_by(data)[1]
    proxy = chosen_by(data) if data.select_on == "holdout" else holdout_measures(data)[1]
    settings = [s for s in settings_of(data) if s.figure(proxy) and s.figure(real)]
    x = [_mean(setting, proxy) for setting in settings]
    y = [_mean(setting, real) for setting in settings]
    known = data.comparable and real.source == "test" and len(settings) >= 3
    if not known or len(set(x)) < 2 or len(set(y)) < 2:
        return None
    from scipy.stats import kendalltau, spearmanr  # here: every process would wait for it

    standing = [setting for setting in settings if not setting.collapsed]
    lost = None
    if standing:
        chosen = max(standing, key=lambda setting: _mean(setting, proxy))
        lost = max(_mean(setting, real) for setting in standing) - _mean(chosen, real)
    return ProxyAgreement(
        spearman=float(spearmanr(x, y).statistic),
        kendall=float(kendalltau(x, y).statistic),
        num_settings=len(settings),
        proxy=proxy,
        real=real,
        lost=lost,
    )


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return which points no other is better than: in one figure, without being worse in the other.

    In the order of the first figure, from high to low; of equal points all are given.
    """
    order = sorted(range(len(points)), key=lambda i: (-points[i][0], -points[i][1], i))
    front: list[int] = []
    for index in order:
        last = points[front[-1]] if front else None
        if last is None or points[index][1] > last[1] or points[index] == last:
            front.append(index)
    return front


def front_of(data: SweepData, pair: tuple[Measure, Measure]) -> list[Setting]:
    """Return the settings on the Pareto front of two figures; collapsed ones are not."""
    clean, robust = pair
    standing = [
        s for s in settings_of(data) if not s.collapsed and s.figure(clean) and s.figure(robust)
    ]
    points = [(_mean(s, clean), _mean(s, robust)) for s in standing]
    return [standing[index] for index in pareto_front(points)]


def _mean(setting: Setting, measure: Measure) -> float:
    figure = setting.figure(measure)
    return round(figure.mean, 9) if figure else float("nan")


def _ranked(
    settings: Sequence[Setting], metric: Measure, clean: Measure
) -> list[tuple[Setting, Pooled]]:
    """Return the settings that may be recommended with their figure, best first."""
    known = [
        (setting, figure)
        for setting in settings
        if not setting.below_bound and (figure := setting.figure(metric))
        if len(figure.per_seed) == len(setting.trials)
    ]

    def standing(pair: tuple[Setting, Pooled]) -> tuple[float, float]:
        tie = pair[0].figure(clean)
        return round(pair[1].mean, 9), round(tie.mean, 9) if tie else -1.0

    return sorted(known, key=standing, reverse=True)


def _said_score(metric: Measure, figure: Pooled, real: bool) -> str:
    seeds = len(figure.per_seed)
    over = f"the mean over {seeds} seeds" if seeds > 1 else "one seed"
    tail = "; choosing by it used real test images, so the figure is optimistic" if real else ""
    name = metric.title[0].lower() + metric.title[1:] if metric.key != metric.title else metric.key
    if metric.source == "test" and metric.key != "clean":
        name = f"accuracy under {metric.title}"
    place = "on real test images" if metric.source == "test" else "on the synthetic hold-out"
    return f"Highest {name} {place}: {format_percent(figure.mean)} ({over}){tail}."


def _said_margin(margin: float | None, figure: Pooled) -> str:
    if margin is None:
        return "No other setting can be compared with it."
    points = f"{format_points(margin)} points"
    if figure.spread is None:
        tail = "with one seed it is not known whether that is more than chance"
        return f"The next best setting lies {points} below; {tail}."
    spread = f"the standard deviation over its seeds, {format_points(figure.spread)} points"
    relation = "more" if margin > figure.spread else "no more"
    return f"The next best setting lies {points} below, which is {relation} than {spread}."


def _said_bound(bound: CleanBound | None, settings: Sequence[Setting]) -> str:
    if bound is None:
        return ""
    below = sum(setting.below_bound for setting in settings)
    name = bound.measure.title[0].lower() + bound.measure.title[1:]
    return (
        f"Only settings count whose {name} is at least {format_percent(bound.least)}, "
        f"{format_percent(bound.share)} of the best one's; {below} of {len(settings)} are below."
    )


def _said_front(on_front: bool | None, pair: tuple[Measure, Measure]) -> str:
    if on_front is None:
        return ""
    real = "on real test images" if pair[0].source == "test" else "on the synthetic hold-out"
    if on_front:
        return f"No other setting beats it in clean and robust figure at once, {real}."
    return f"Another setting is at least as good in both clean and robust figure, {real}."


def _said_floor(best: Setting) -> str:
    below = dict.fromkeys(label for trial in best.trials for label in trial.below_floor)
    if not below:
        return ""
    return f"Beware: it lies below the floor of a constant answer ({', '.join(below)}). {ADVICE}"
