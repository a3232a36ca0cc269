"""All trackers. A new tracker is one new file and one line here."""

from dfshield.families import Family
from dfshield.trackers.base import Tracker
from dfshield.trackers.mlflow import MLflow
from dfshield.trackers.tensorboard import TensorBoard
from dfshield.trackers.wandb import WeightsAndBiases

TRACKERS: Family[Tracker] = Family(
    "tracker",
    (
        TensorBoard,
        MLflow,
        WeightsAndBiases,
    ),
)
