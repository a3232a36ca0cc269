"""The trainer that a configuration asks for, for a student and its images."""

import torch

from dfshield.classifiers import Classifier
from dfshield.config import Config, TrainingConfig
from dfshield.runs.execution.engine import Engine
from dfshield.storage import SurrogateTensors
from dfshield.training import (
    AUGMENTATIONS,
    AVERAGES,
    OBJECTIVES,
    SCHEDULES,
    AdversarialTrainer,
    InnerMaximization,
    WorkerGroup,
)


def training_passes(training: TrainingConfig) -> float:
    """Return the forward passes that a training spends on an image in an epoch.

    An attack step goes forward and back to the image; the mini-batch itself twice forward and back
    to the weights, which costs another forward pass each.
    """
    return 2.0 * training.inner.num_steps + 1 + 2 * 3


def make_trainer(
    config: Config,
    student: Classifier,
    teacher: Classifier,
    data: SurrogateTensors,
    *,
    seed: int,
    engine: Engine,
    group: WorkerGroup | None = None,
) -> AdversarialTrainer:
    """Return the trainer of a student under an engine; the teacher is on the student's device."""
    training = config.training
    objective = OBJECTIVES.make(training.objective.name, **training.objective.options)
    inner = training.inner
    return AdversarialTrainer(
        student,
        images=data.images,
        labels=data.labels,
        teacher_logits=data.teacher_logits,
        optimizer=torch.optim.SGD(
            student.parameters(),
            lr=training.learning_rate,
            momentum=training.momentum,
            nesterov=training.nesterov,
            weight_decay=training.weight_decay,
        ),
        objective=objective,
        inner=InnerMaximization(
            eps=config.threat.eps,
            norm=config.threat.norm,
            num_steps=inner.num_steps,
            step_size=inner.step_size,
            loss=inner.loss or objective.inner_loss,
            start=inner.start or objective.inner_start,
        ),
        epochs=training.epochs,
        batch_size=training.batch_size,
        num_batches=training.gradrefine.num_batches,
        tau=training.gradrefine.tau,
        schedule=SCHEDULES.make(training.schedule.name, **training.schedule.options),
        average=AVERAGES.make(training.average.name, **training.average.options),
        augmentations=[
            AUGMENTATIONS.make(one.name, **one.options) for one in training.augmentations
        ],
        teacher=teacher,
        weight_perturbation=training.weight_perturbation,
        seed=seed,
        group=group,
        acceleration=engine.acceleration,
        batches_per_pass=engine.batches_per_pass,
    )
