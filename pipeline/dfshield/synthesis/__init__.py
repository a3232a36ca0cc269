"""Teacher to images: the family of synthesizers, and the losses and draws of the paper's own."""

from dfshield.synthesis.base import (
    BatchState,
    BoundSynthesizer,
    FittedSynthesizer,
    OnIteration,
    SynthesizedBatch,
    Synthesizer,
)
from dfshield.synthesis.batched import BatchedInversion
from dfshield.synthesis.coefficients import Coefficients, CoefficientSampler, Rule
from dfshield.synthesis.draws import BatchDraws, LabelRule, draw_batch, draw_labels
from dfshield.synthesis.dss import DSS, NEW_HOLDOUTS, Inversion
from dfshield.synthesis.fit import GeneratorFit
from dfshield.synthesis.generated import GeneratorSampler, NetworkFit
from dfshield.synthesis.generator_network import GeneratorNetwork
from dfshield.synthesis.intraq import IntraQ
from dfshield.synthesis.losses import (
    FeatureStatistics,
    SquaredStatistics,
    class_prior_loss,
    total_variation,
)
from dfshield.synthesis.plain import InversionState, optimise
from dfshield.synthesis.qimera import Qimera
from dfshield.synthesis.rdskd import RDSKD
from dfshield.synthesis.registry import SYNTHESIZERS

__all__ = [
    "DSS",
    "NEW_HOLDOUTS",
    "RDSKD",
    "SYNTHESIZERS",
    "BatchDraws",
    "BatchState",
    "BatchedInversion",
    "BoundSynthesizer",
    "CoefficientSampler",
    "Coefficients",
    "FeatureStatistics",
    "FittedSynthesizer",
    "GeneratorFit",
    "GeneratorNetwork",
    "GeneratorSampler",
    "IntraQ",
    "Inversion",
    "InversionState",
    "LabelRule",
    "NetworkFit",
    "OnIteration",
    "Qimera",
    "Rule",
    "SquaredStatistics",
    "SynthesizedBatch",
    "Synthesizer",
    "class_prior_loss",
    "draw_batch",
    "draw_labels",
    "optimise",
    "total_variation",
]
