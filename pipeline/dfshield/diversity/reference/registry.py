"""All metrics against real images. A new metric is one new file and one line here."""

from dfshield.diversity.reference.base import ReferenceMetric
from dfshield.diversity.reference.bins import Bins
from dfshield.diversity.reference.neighbours import Neighbours
from dfshield.families import Family

REFERENCE: Family[ReferenceMetric] = Family(
    "metric against real images",
    (
        Neighbours,
        Bins,
    ),
)
