"""Which metrics the events of a run hold, how they are called, and at which step they stand."""

import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dfshield.results import AGREEMENT_CLEAN, AGREEMENT_PGD
from dfshield.trackers import Point

RATE_WINDOW_S = 300.0

HOLDOUT = (AGREEMENT_CLEAN, AGREEMENT_PGD, "collapsed")


class EventMetrics:
    """Makes metrics of the events of a run.

    Rates are those of the last five minutes, as the driver sees them.

    Args:
        seeds: those of the run.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self._several = len(seeds) > 1
        self._images = _Rate()
        self._updates = _Rate()

    def of(self, event: str, fields: Mapping[str, Any]) -> Point | None:
        """Return what an event tells; None for one without metrics."""
        if event == "synthesis_started":
            self._images = _Rate(fields["images"])
        elif event == "training_started":
            self._updates = _Rate(fields["updates"])
        elif event == "fit_step":
            return self._point("generator", fields, _losses(fields), fields["step"])
        elif event in ("part_committed", "part_made"):
            made = self._images.done + fields["images"]
            rate = {"images_per_second": self._images.at(made)}
            return self._point("synthesis", fields, rate | _losses(fields), made)
        elif event == "update":
            done = fields["step"]
            rate = {"updates_per_second": self._updates.at(done)}
            agreement = _chosen(fields, {"agreement_rate"} & fields.keys())
            return self._point("train", fields, rate | _losses(fields) | agreement, done)
        elif event == "epoch":
            metrics = _chosen(fields, HOLDOUT) | fields.get("scores", {})
            return self._point("holdout", fields, metrics, fields["epoch"] + 1)
        elif event == "evaluated":
            accuracy = {f"{fields['model']}/{fields['attack']}": fields["accuracy"]}
            return self._point("evaluation", fields, accuracy, 0)
        return None

    def _point(
        self, group: str, fields: Mapping[str, Any], metrics: Mapping[str, float], step: int
    ) -> Point:
        prefix = f"seed-{fields['seed']}/" if self._several else ""
        return Point(f"{prefix}{group}", metrics, step)


def _losses(fields: Mapping[str, Any]) -> dict[str, float]:
    """Return the loss and its terms, ``loss_NAME``, whichever the method has."""
    return {name: float(value) for name, value in fields.items() if name.startswith("loss")}


def _chosen(fields: Mapping[str, Any], names: Iterable[str]) -> dict[str, float]:
    return {name: float(fields[name]) for name in names}


class _Rate:
    """How fast a count grows, over a window of time."""

    def __init__(self, done: int = 0) -> None:
        self._samples = deque([(time.monotonic(), done)])

    @property
    def done(self) -> int:
        """The last count."""
        return self._samples[-1][1]

    def at(self, done: int) -> float:
        """Return the rate, per second, now that the count has reached this."""
        now = time.monotonic()
        self._samples.append((now, done))
        while len(self._samples) > 2 and self._samples[1][0] < now - RATE_WINDOW_S:
            self._samples.popleft()
        since, before = self._samples[0]
        return (done - before) / max(now - since, 1e-3)
