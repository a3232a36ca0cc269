"""Common corruptions: one contract (`Corruption`), fifteen of them, and accuracy under them."""

from dfshield.evaluation.corruptions.base import SEVERITIES, Corruption
from dfshield.evaluation.corruptions.measure import evaluate_corruptions
from dfshield.evaluation.corruptions.registry import CORRUPTIONS
from dfshield.results import CorruptionsResult

__all__ = [
    "CORRUPTIONS",
    "SEVERITIES",
    "Corruption",
    "CorruptionsResult",
    "evaluate_corruptions",
]
