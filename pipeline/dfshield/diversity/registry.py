"""All diversity metrics. A new metric is one new file and one line here."""

from dfshield.diversity.base import DiversityMetric
from dfshield.diversity.feature_distances import FeatureDistances
from dfshield.diversity.near_duplicates import NearDuplicates
from dfshield.diversity.prediction_entropy import PredictionEntropy
from dfshield.families import Family

DIVERSITY: Family[DiversityMetric] = Family(
    "diversity metric",
    (
        PredictionEntropy,
        NearDuplicates,
        FeatureDistances,
    ),
)
