"""All learning-rate schedules. A new schedule is one new file and one line here."""

from dfshield.families import Family
from dfshield.training.schedules.base import Schedule
from dfshield.training.schedules.constant import Constant
from dfshield.training.schedules.cosine import Cosine
from dfshield.training.schedules.piecewise import Piecewise

SCHEDULES: Family[Schedule] = Family("schedule", (Constant, Cosine, Piecewise))
