"""What the accuracies of an evaluation are told with: their interval, and their mean over seeds."""

import statistics
from collections.abc import Sequence

from dfshield.errors import InputError
from dfshield.results import EvaluationResult


def wilson_interval(num_correct: int, num_images: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a share (Wilson, 1927), within [0, 1]."""
    from scipy.stats import binomtest  # here: every process would wait for it

    interval = binomtest(num_correct, num_images).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def mean_and_spread(results: Sequence[EvaluationResult]) -> tuple[float, float | None]:
    """Return mean and sample standard deviation of the accuracies of several seeds.

    The spread of a single result is None: one run says nothing about it.

    Raises:
        InputError: when there is no result.
    """
    if not results:
        raise InputError("there is no result to take the mean of")
    accuracies = [result.accuracy for result in results]
    spread = statistics.stdev(accuracies) if len(accuracies) > 1 else None
    return statistics.fmean(accuracies), spread
