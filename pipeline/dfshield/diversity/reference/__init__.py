"""How well a set of images covers real ones: one contract (`ReferenceMetric`).

What stands here looks at real images. It is for measuring alone, as `dfshield.evaluation` is.
"""

from dfshield.diversity.reference.base import Measure, ReferenceMetric, Score
from dfshield.diversity.reference.bins import Bins
from dfshield.diversity.reference.distances import Advance
from dfshield.diversity.reference.neighbours import Neighbours
from dfshield.diversity.reference.projection import Projection, principal_components
from dfshield.diversity.reference.registry import REFERENCE

__all__ = [
    "REFERENCE",
    "Advance",
    "Bins",
    "Measure",
    "Neighbours",
    "Projection",
    "ReferenceMetric",
    "Score",
    "principal_components",
]
