"""All training objectives. A new objective is one new file and one line here."""

from dfshield.families import Family
from dfshield.training.objectives.base import Objective
from dfshield.training.objectives.soft_label import SoftLabelObjective
from dfshield.training.objectives.trades import TradesObjective

OBJECTIVES: Family[Objective] = Family(
    "objective",
    (
        SoftLabelObjective,
        TradesObjective,
    ),
)
