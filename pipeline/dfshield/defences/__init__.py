"""Test-time defences: one contract (`Defence`), which wraps a classifier."""

from dfshield.defences.adaptation import Adaptation, adaptation
from dfshield.defences.base import Defence
from dfshield.defences.dad import DAD
from dfshield.defences.dad_detector import Detector, adapt_detector, train_detector
from dfshield.defences.diffpure import DiffPure
from dfshield.defences.registry import DEFENCES
from dfshield.defences.score_network import ScoreNetwork, train_score
from dfshield.defences.tte import TTE

__all__ = [
    "DAD",
    "DEFENCES",
    "TTE",
    "Adaptation",
    "Defence",
    "Detector",
    "DiffPure",
    "ScoreNetwork",
    "adapt_detector",
    "adaptation",
    "train_detector",
    "train_score",
]
