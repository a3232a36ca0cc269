"""What evaluations and trainings come to, as all who make, keep, compare or show it know it."""

from dfshield.results.collapse import COLLAPSE_SHARE, has_collapsed
from dfshield.results.corruptions import CorruptionsResult
from dfshield.results.data_free import NOT_DATA_FREE, REFERENCE_MARK, SOME_NOT_DATA_FREE
from dfshield.results.evaluation import WORST_CASE, WORST_OF, DataInfo, EvaluationResult, Share
from dfshield.results.holdout import (
    AGREEMENT_CLEAN,
    AGREEMENT_PGD,
    HOLDOUT_TITLES,
    HoldoutMetrics,
)
from dfshield.results.kept_json import read_kept

__all__ = [
    "AGREEMENT_CLEAN",
    "AGREEMENT_PGD",
    "COLLAPSE_SHARE",
    "HOLDOUT_TITLES",
    "NOT_DATA_FREE",
    "REFERENCE_MARK",
    "SOME_NOT_DATA_FREE",
    "WORST_CASE",
    "WORST_OF",
    "CorruptionsResult",
    "DataInfo",
    "EvaluationResult",
    "HoldoutMetrics",
    "Share",
    "has_collapsed",
    "read_kept",
]
