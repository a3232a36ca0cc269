"""What the student minimises: a family of objectives behind one contract (`Objective`)."""

from dfshield.training.objectives.ard import ArdObjective
from dfshield.training.objectives.base import Losses, Objective
from dfshield.training.objectives.mart import MartObjective
from dfshield.training.objectives.registry import OBJECTIVES
from dfshield.training.objectives.rslad import RsladObjective
from dfshield.training.objectives.soft_label import SoftLabelObjective
from dfshield.training.objectives.std import StandardObjective
from dfshield.training.objectives.trades import TradesObjective

__all__ = [
    "OBJECTIVES",
    "ArdObjective",
    "Losses",
    "MartObjective",
    "Objective",
    "RsladObjective",
    "SoftLabelObjective",
    "StandardObjective",
    "TradesObjective",
]
