"""What a sweep recommends, as a JSON value."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from dfshield.report.sweep.choice import front_of, recommend
from dfshield.report.sweep.settings import (
    Setting,
    clean_bound,
    holdout_measures,
    judged_by,
    settings_of,
)
from dfshield.report.sweep.trials import SweepData


def answer_of(data: SweepData) -> dict[str, Any]:
    """Return the recommended setting, what it had to have, and the Pareto fronts.

    Returns:
        ``recommended``: the fields of `Recommendation`, or None; ``clean_bound``: by which figure,
        its share of the best one's and the least that it may be, or None; ``fronts``: the values of
        the settings on each front, by ``holdout`` and, with real test images, ``test``.
    """
    best, settings = recommend(data), settings_of(data)
    bound = clean_bound(data, settings)
    fronts = {"holdout": _values(front_of(data, holdout_measures(data)))}
    pair = judged_by(data)
    if pair[0].source == "test":
        fronts["test"] = _values(front_of(data, pair))
    below = _values(setting for setting in settings if setting.below_bound)
    return {
        "recommended": None if best is None else {**asdict(best), "values": dict(best.values)},
        "clean_bound": None
        if bound is None
        else {
            "source": bound.measure.source,
            "metric": bound.measure.key,
            "share": bound.share,
            "least": bound.least,
            "below": below,
        },
        "fronts": fronts,
    }


def _values(settings: Iterable[Setting]) -> list[dict[str, Any]]:
    return [dict(setting.values) for setting in settings]
