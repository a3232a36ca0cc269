"""What others do without data, as the paper adapts it: generator and student trained together."""

from dfshield.baselines.ait import AIT
from dfshield.baselines.base import Access, Baseline
from dfshield.baselines.dast import DaST
from dfshield.baselines.dfard import DFARD
from dfshield.baselines.dfme import DFME
from dfshield.baselines.networks import (
    AuxiliaryClassifierNetwork,
    BranchedNetwork,
    NormalisedNetwork,
)
from dfshield.baselines.registry import BASELINES
from dfshield.baselines.training import BaselineTraining

__all__ = [
    "AIT",
    "BASELINES",
    "DFARD",
    "DFME",
    "Access",
    "AuxiliaryClassifierNetwork",
    "Baseline",
    "BaselineTraining",
    "BranchedNetwork",
    "DaST",
    "NormalisedNetwork",
]
