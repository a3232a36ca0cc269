"""The paper's tables and figures as data: what every cell is run with, at three scales."""

from dfshield.experiments.experiment import Experiment
from dfshield.experiments.figure import Figure, FigureExperiment, Picture
from dfshield.experiments.loading import (
    EXPERIMENT_IDS,
    NOT_RUN,
    SCALES,
    experiment,
    file_source,
    scale,
)
from dfshield.experiments.parts import OWN, Cell, Place, Scale, filled
from dfshield.experiments.table import TableExperiment
from dfshield.experiments.toy import WAYS, Toy, ToyExperiment

__all__ = [
    "EXPERIMENT_IDS",
    "NOT_RUN",
    "OWN",
    "SCALES",
    "WAYS",
    "Cell",
    "Experiment",
    "Figure",
    "FigureExperiment",
    "Picture",
    "Place",
    "Scale",
    "TableExperiment",
    "Toy",
    "ToyExperiment",
    "experiment",
    "file_source",
    "filled",
    "scale",
]
