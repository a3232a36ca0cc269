"""All learning-rate schedules. A new schedule is one new file and one line here."""

from dfshield.families import Family
from dfshield.schedules.base import Schedule
from dfshield.schedules.constant import Constant
from dfshield.schedules.cosine import Cosine
from dfshield.schedules.piecewise import Piecewise

SCHEDULES: Family[Schedule] = Family("schedule", (Constant, Cosine, Piecewise))
