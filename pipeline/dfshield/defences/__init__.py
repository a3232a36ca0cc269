"""Test-time defences: one contract (`Defence`), which wraps a classifier."""

from dfshield.defences.base import Defence
from dfshield.defences.registry import DEFENCES
from dfshield.defences.tte import TTE

__all__ = ["DEFENCES", "TTE", "Defence"]
