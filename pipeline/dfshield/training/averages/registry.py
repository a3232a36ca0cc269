"""All averages. A new average is one new file and one line here."""

from dfshield.families import Family
from dfshield.training.averages.base import Average
from dfshield.training.averages.ema import Ema
from dfshield.training.averages.none import NoAverage
from dfshield.training.averages.swa import Swa

AVERAGES: Family[Average] = Family("average", (NoAverage, Ema, Swa))
