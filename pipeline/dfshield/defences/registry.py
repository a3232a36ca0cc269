"""All test-time defences. A new defence is one new file and one line here."""

from dfshield.defences.base import Defence
from dfshield.defences.dad import DAD
from dfshield.defences.diffpure import DiffPure
from dfshield.defences.tte import TTE
from dfshield.families import Family

DEFENCES: Family[Defence] = Family(
    "defence",
    (TTE, DAD, DiffPure),
)
