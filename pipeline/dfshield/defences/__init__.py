"""Test-time defences: one contract (`Defence`), which wraps a classifier."""

from dfshield.defences.adaptation import Adaptation, adaptation
from dfshield.defences.base import Defence
from dfshield.defences.dad import DAD
from dfshield.defences.dad_detector import Detector, adapt_detector, train_detector
from dfshield.defences.registry import DEFENCES
from dfshield.defences.tte import TTE

__all__ = [
    "DAD",
    "DEFENCES",
    "TTE",
    "Adaptation",
    "Defence",
    "Detector",
    "adapt_detector",
    "adaptation",
    "train_detector",
]
