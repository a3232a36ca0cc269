"""All synthesizers. A new one is one new file and one line here."""

from dfshield.families import Family
from dfshield.synthesis.base import Synthesizer
from dfshield.synthesis.dss import DSS
from dfshield.synthesis.intraq import IntraQ

SYNTHESIZERS: Family[Synthesizer] = Family("synthesizer", (DSS, IntraQ))
