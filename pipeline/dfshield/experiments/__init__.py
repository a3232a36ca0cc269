"""The paper's tables and figures as data: what every cell is run with, at three scales."""

from dfshield.experiments.experiment import Experiment
from dfshield.experiments.figure import FigureExperiment, Picture
from dfshield.experiments.loading import EXPERIMENT_IDS, SCALES, experiment, scale
from dfshield.experiments.parts import OWN, Cell, Place, Scale, filled
from dfshield.experiments.table import TableExperiment

__all__ = [
    "EXPERIMENT_IDS",
    "OWN",
    "SCALES",
    "Cell",
    "Experiment",
    "FigureExperiment",
    "Picture",
    "Place",
    "Scale",
    "TableExperiment",
    "experiment",
    "filled",
    "scale",
]
