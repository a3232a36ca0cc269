"""How diverse a set of images is, told without real images: one contract (`DiversityMetric`)."""

from dfshield.diversity.base import DiversityMetric, Quantity
from dfshield.diversity.feature_distances import FeatureDistances
from dfshield.diversity.near_duplicates import NearDuplicates
from dfshield.diversity.prediction_entropy import PredictionEntropy
from dfshield.diversity.registry import DIVERSITY

__all__ = [
    "DIVERSITY",
    "DiversityMetric",
    "FeatureDistances",
    "NearDuplicates",
    "PredictionEntropy",
    "Quantity",
]
