"""All training objectives. A new objective is one new file and one line here."""

from dfshield.families import Family
from dfshield.training.objectives.ard import ArdObjective
from dfshield.training.objectives.base import Objective
from dfshield.training.objectives.mart import MartObjective
from dfshield.training.objectives.rslad import RsladObjective
from dfshield.training.objectives.soft_label import SoftLabelObjective
from dfshield.training.objectives.std import StandardObjective
from dfshield.training.objectives.trades import TradesObjective

OBJECTIVES: Family[Objective] = Family(
    "objective",
    (
        SoftLabelObjective,
        StandardObjective,
        TradesObjective,
        MartObjective,
        ArdObjective,
        RsladObjective,
    ),
)
