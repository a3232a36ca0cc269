"""Evaluation: accuracy under attack, with interval, constant-classifier floor and histogram."""

from dfshield.evaluation.accuracy import (
    Images,
    as_images,
    evaluate,
    evaluate_slices,
    slice_bounds,
)
from dfshield.evaluation.results import (
    COLLAPSE_SHARE,
    DataInfo,
    EvaluationResult,
    mean_and_spread,
    summarise,
    wilson_interval,
)
from dfshield.evaluation.slices import (
    NON_FINITE,
    SliceResult,
    evaluate_slice,
    margins,
    robust_images,
    same_logits,
)

__all__ = [
    "COLLAPSE_SHARE",
    "NON_FINITE",
    "DataInfo",
    "EvaluationResult",
    "Images",
    "SliceResult",
    "as_images",
    "evaluate",
    "evaluate_slice",
    "evaluate_slices",
    "margins",
    "mean_and_spread",
    "robust_images",
    "same_logits",
    "slice_bounds",
    "summarise",
    "wilson_interval",
]
