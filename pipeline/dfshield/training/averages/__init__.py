"""Averages over the students of many updates: a family behind one contract (`Average`)."""

from dfshield.training.averages.base import Average
from dfshield.training.averages.ema import Ema
from dfshield.training.averages.none import NoAverage
from dfshield.training.averages.registry import AVERAGES
from dfshield.training.averages.swa import Swa

__all__ = ["AVERAGES", "Average", "Ema", "NoAverage", "Swa"]
