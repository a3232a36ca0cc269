"""Images to student: objectives, adversarial images, GradRefine, the loop."""

from dfshield.divergence import kl_divergence
from dfshield.results import HoldoutMetrics
from dfshield.schedules import SCHEDULES, Schedule
from dfshield.training.augmentations import AUGMENTATIONS, Augmentation
from dfshield.training.averages import AVERAGES, Average
from dfshield.training.batchnorm import BatchNormRecords, DeferredBatchNorm
from dfshield.training.deferrable import require_deferrable
from dfshield.training.gradrefine import GradRefine
from dfshield.training.group import SingleWorker, TorchWorkerGroup, WorkerGroup
from dfshield.training.holdout import holdout_metrics
from dfshield.training.inner_maximization import InnerMaximization
from dfshield.training.measures import MEASURES, HoldoutMeasure, measured_epochs
from dfshield.training.objectives import (
    OBJECTIVES,
    ArdObjective,
    Losses,
    MartObjective,
    Objective,
    RsladObjective,
    SoftLabelObjective,
    StandardObjective,
    TradesObjective,
)
from dfshield.training.records import UpdateRecord
from dfshield.training.supervised import SupervisedEpoch, train_supervised, validate
from dfshield.training.trainable import require_trainable
from dfshield.training.trainer import AdversarialTrainer
from dfshield.training.weight_perturbation import WeightPerturbation

__all__ = [
    "AUGMENTATIONS",
    "AVERAGES",
    "MEASURES",
    "OBJECTIVES",
    "SCHEDULES",
    "AdversarialTrainer",
    "ArdObjective",
    "Augmentation",
    "Average",
    "BatchNormRecords",
    "DeferredBatchNorm",
    "GradRefine",
    "HoldoutMeasure",
    "HoldoutMetrics",
    "InnerMaximization",
    "Losses",
    "MartObjective",
    "Objective",
    "RsladObjective",
    "Schedule",
    "SingleWorker",
    "SoftLabelObjective",
    "StandardObjective",
    "SupervisedEpoch",
    "TorchWorkerGroup",
    "TradesObjective",
    "UpdateRecord",
    "WeightPerturbation",
    "WorkerGroup",
    "holdout_metrics",
    "kl_divergence",
    "measured_epochs",
    "require_deferrable",
    "require_trainable",
    "train_supervised",
    "validate",
]
