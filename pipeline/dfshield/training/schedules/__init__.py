"""Learning rates by update: a family of schedules behind one contract (`Schedule`)."""

from dfshield.training.schedules.base import Schedule
from dfshield.training.schedules.constant import Constant
from dfshield.training.schedules.cosine import Cosine
from dfshield.training.schedules.learning_rates import LearningRates
from dfshield.training.schedules.piecewise import Piecewise
from dfshield.training.schedules.registry import SCHEDULES

__all__ = ["SCHEDULES", "Constant", "Cosine", "LearningRates", "Piecewise", "Schedule"]
