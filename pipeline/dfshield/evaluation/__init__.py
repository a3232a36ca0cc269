"""Evaluation: accuracy under attack, with interval, constant-classifier floor and histogram."""

from dfshield.evaluation.accuracy import (
    Images,
    as_images,
    data_info,
    evaluate,
    evaluate_slices,
    slice_bounds,
)
from dfshield.evaluation.intervals import mean_and_spread, wilson_interval
from dfshield.evaluation.records import ImageRecords, image_records, worst_case
from dfshield.evaluation.robustbench import is_robustbench, robustbench_entry
from dfshield.evaluation.slices import (
    NON_FINITE,
    SliceResult,
    evaluate_slice,
    margins,
    robust_images,
)
from dfshield.evaluation.summary import measured_with, summarise, summarise_worst_case
from dfshield.results import DataInfo, EvaluationResult

__all__ = [
    "NON_FINITE",
    "DataInfo",
    "EvaluationResult",
    "ImageRecords",
    "Images",
    "SliceResult",
    "as_images",
    "data_info",
    "evaluate",
    "evaluate_slice",
    "evaluate_slices",
    "image_records",
    "is_robustbench",
    "margins",
    "mean_and_spread",
    "measured_with",
    "robust_images",
    "robustbench_entry",
    "slice_bounds",
    "summarise",
    "summarise_worst_case",
    "wilson_interval",
    "worst_case",
]
