"""Teacher to images: the losses, the coefficients, the inversion."""

from dfshield.synthesis.batched import Together
from dfshield.synthesis.coefficients import Coefficients, CoefficientSampler, Rule
from dfshield.synthesis.draws import BatchDraws, LabelRule, draw_batch, draw_labels
from dfshield.synthesis.inversion import Inversion, SynthesizedBatch
from dfshield.synthesis.losses import FeatureStatistics, class_prior_loss, total_variation
from dfshield.synthesis.plain import InversionState, OnIteration, optimise

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
    "Together",
    "class_prior_loss",
    "draw_batch",
    "draw_labels",
    "optimise",
    "total_variation",
]
