"""The trainer that a configuration asks for, for a student and its images."""

import copy
from dataclasses import dataclass

import torch

from dfshield.classifiers import Classifier
from dfshield.config import Config, TrainingConfig
from dfshield.pixels import as_floats
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
from dfshield.training.trial import TrialImages


def training_passes(training: TrainingConfig) -> float:
    """Return the forward passes that a training spends on an image in an epoch.

    An attack step goes forward and back to the image; the mini-batch itself twice forward and back
    to the weights, which costs another forward pass each.
    """
    return 2.0 * training.inner.mean_steps + 1 + 2 * 3


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
            first_steps=inner.first_steps,
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


def random_images(teacher: Classifier, num_images: int) -> SurrogateTensors:
    """Return images that cost what surrogate images do, on the teacher's device, for timing."""
    images = torch.rand(
        num_images, *teacher.input_shape, generator=torch.Generator().manual_seed(0)
    ).to(teacher.mean.device)
    with torch.no_grad():
        logits = teacher(images)
    return SurrogateTensors(images, logits.argmax(dim=1), logits)


@dataclass(frozen=True, eq=False)
class MeasurableTraining:
    """A training like a run's, of which a few updates can be measured: it does not end.

    Attributes:
        config: the run's, but for what ends the training and for the size of its groups.
        teacher: on the device that is computed on.
        images: of one group of mini-batches, which is an epoch; on that device.
        seed: of the run.
    """

    config: Config
    teacher: Classifier
    images: SurrogateTensors
    seed: int

    @classmethod
    def of(
        cls, config: Config, teacher: Classifier, images: SurrogateTensors, *, seed: int
    ) -> "MeasurableTraining":
        """Return the training of a run on the images of one group."""
        training = config.training
        num_batches = -(-len(images) // training.batch_size)
        group = training.gradrefine.model_copy(update={"num_batches": num_batches})
        steps = {"num_steps": training.inner.mean_steps, "first_steps": None}
        inner = training.inner.model_copy(update=steps)
        endless = training.model_copy(update={"gradrefine": group, "inner": inner, "epochs": 1000})
        return cls(config.model_copy(update={"training": endless}), teacher, images, seed)

    def trainer(self, engine: Engine) -> AdversarialTrainer:
        """Return a trainer at the beginning of it, under an engine."""
        return make_trainer(
            self.config,
            copy.deepcopy(self.teacher).requires_grad_(True),
            self.teacher,
            self.images,
            seed=self.seed,
            engine=engine,
        )

    def first_pass(self, batches_per_pass: int) -> TrialImages:
        """Return whole mini-batches of its images that are attacked together."""
        size, images = self.config.training.batch_size, self.images
        wanted = slice(size * max(1, min(batches_per_pass, len(images) // size)))
        return TrialImages(
            as_floats(images.images[wanted]),
            images.labels[wanted],
            images.teacher_logits[wanted],
            size,
        )
