"""All baselines. A new one is one new file and one line here."""

from dfshield.baselines.ait import AIT
from dfshield.baselines.base import Baseline
from dfshield.baselines.dast import DaST
from dfshield.baselines.dfard import DFARD
from dfshield.baselines.dfme import DFME
from dfshield.families import Family

BASELINES: Family[Baseline] = Family("baseline", (DaST, DFME, AIT, DFARD))
