"""Who is told the metrics while a run works: a family of trackers behind one contract (`Tracker`).

Trackers know nothing of configurations::

    from dfshield.trackers import TRACKERS, Point, TrackedRun

    recorder = TRACKERS.make("mlflow", experiment="mine").open(TrackedRun("digits", folder, {}))
    recorder.log(Point("train", {"loss": 0.5}, step=1))
    recorder.close(failed=False)
"""

from dfshield.trackers.base import Point, Recorder, TrackedRun, Tracker
from dfshield.trackers.mlflow import MLflow
from dfshield.trackers.registry import TRACKERS
from dfshield.trackers.tensorboard import TensorBoard
from dfshield.trackers.wandb import WeightsAndBiases

__all__ = [
    "TRACKERS",
    "MLflow",
    "Point",
    "Recorder",
    "TensorBoard",
    "TrackedRun",
    "Tracker",
    "WeightsAndBiases",
]
