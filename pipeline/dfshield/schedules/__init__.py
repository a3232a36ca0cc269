"""Learning rates by update: a family of schedules behind one contract (`Schedule`)."""

from dfshield.schedules.base import Schedule
from dfshield.schedules.constant import Constant
from dfshield.schedules.cosine import Cosine
from dfshield.schedules.piecewise import Piecewise
from dfshield.schedules.registry import SCHEDULES

__all__ = ["SCHEDULES", "Constant", "Cosine", "Piecewise", "Schedule"]
