"""The paper's experiments as data: what every cell of a table is run with, at three scales."""

from dfshield.experiments.experiment import OWN, Cell, Experiment, Place, Scale, filled
from dfshield.experiments.loading import EXPERIMENT_IDS, SCALES, experiment, scale

__all__ = [
    "EXPERIMENT_IDS",
    "OWN",
    "SCALES",
    "Cell",
    "Experiment",
    "Place",
    "Scale",
    "experiment",
    "filled",
    "scale",
]
