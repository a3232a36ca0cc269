"""All synthesizers. A new one is one new file and one line here."""

from dfshield.families import Family
from dfshield.synthesis.base import Synthesizer
from dfshield.synthesis.dss import DSS
from dfshield.synthesis.intraq import IntraQ
from dfshield.synthesis.qimera import Qimera
from dfshield.synthesis.rdskd import RDSKD

SYNTHESIZERS: Family[Synthesizer] = Family("synthesizer", (DSS, IntraQ, Qimera, RDSKD))
