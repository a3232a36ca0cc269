"""Evaluation: accuracy under attack, with interval, constant-classifier floor and histogram."""

from dfshield.evaluation.accuracy import Images, evaluate, slice_bounds
from dfshield.evaluation.results import (
    DataInfo,
    EvaluationResult,
    mean_and_spread,
    summarise,
    wilson_interval,
)
from dfshield.evaluation.slices import SliceResult, evaluate_slice

__all__ = [
    "DataInfo",
    "EvaluationResult",
    "Images",
    "SliceResult",
    "evaluate",
    "evaluate_slice",
    "mean_and_spread",
    "slice_bounds",
    "summarise",
    "wilson_interval",
]
