"""Teacher to images: the losses, the coefficients, the inversion."""

from dfshield.synthesis.coefficients import Coefficients, CoefficientSampler, Rule
from dfshield.synthesis.draws import BatchDraws, LabelRule, draw_batch, draw_labels
from dfshield.synthesis.inversion import (
    Inversion,
    InversionState,
    OnIteration,
    SynthesizedBatch,
    optimise,
)
from dfshield.synthesis.losses import FeatureStatistics, class_prior_loss, total_variation

__all__ = [
    "BatchDraws",
    "CoefficientSampler",
    "Coefficients",
    "FeatureStatistics",
    "Inversion",
    "InversionState",
    "LabelRule",
    "OnIteration",
    "Rule",
    "SynthesizedBatch",
    "class_prior_loss",
    "draw_batch",
    "draw_labels",
    "optimise",
    "total_variation",
]
