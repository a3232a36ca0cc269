"""The section of the training: objective, GradRefine, inner maximisation."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from dfshield.config.families import augmentations, averages, measures, objectives, schedules
from dfshield.config.sections import EngineConfig, Section
from dfshield.config.teacher import DataConfig
from dfshield.config.values import Count, LearningRate, NonNegative, Step, Text
from dfshield.config.variants import VariantConfig, VariantOf
from dfshield.errors import InputError

DEFAULT_MEASURE = "agreement_pgd"
ObjectiveConfig = Annotated[VariantConfig, VariantOf(objectives, default="soft-label")]
ScheduleConfig = Annotated[VariantConfig, VariantOf(schedules, default="constant")]
AverageConfig = Annotated[VariantConfig, VariantOf(averages, default="none")]
MeasureConfig = Annotated[VariantConfig, VariantOf(measures, default=DEFAULT_MEASURE)]
AugmentationConfig = Annotated[VariantConfig, VariantOf(augmentations)]


class GradRefineConfig(Section):
    """GradRefine (equations 9 and 10)."""

    num_batches: Count = Field(20, description="K: mini-batches refined together; 1 is off.")
    tau: Annotated[float, Field(ge=0, le=1)] = 0.5


class InnerConfig(Section):
    """PGD inside training; its norm and eps are the threat's."""

    num_steps: Count = 10
    step_size: Step | None = Field(
        None, description="None: eps / 4 (linf), 2 eps / num_steps (l2)."
    )
    first_steps: Count | None = Field(
        None,
        description="Steps at the first update; they grow to num_steps at the last, and fewer "
        "steps are longer. None: num_steps always.",
    )
    loss: Literal["kl", "teacher-kl", "ce"] | None = Field(
        None,
        description="What is maximised: kl of student and student, teacher-kl of teacher and "
        "student, ce on artificial labels. None: as the objective says.",
    )
    start: Literal["gaussian", "uniform", "kept"] | None = Field(
        None,
        description="Where it starts: 0.001 N(0, I), or uniformly in the ball; kept: the former, "
        "around the perturbation that the epoch before has left of each image. None: likewise.",
    )

    @property
    def mean_steps(self) -> int:
        """The steps of a mini-batch, in the mean over a training, rounded up."""
        first = self.first_steps or self.num_steps
        return -(-(first + self.num_steps) // 2)

    @model_validator(mode="after")
    def _first_steps_are_fewer(self) -> "InnerConfig":
        if self.first_steps is not None and self.first_steps > self.num_steps:
            raise ValueError(
                f"first_steps: {self.first_steps} are more than num_steps, {self.num_steps}"
            )
        return self


class ReferenceData(DataConfig):
    """The real images of a reference."""

    split: Literal["train", "val", "test"] = "train"


class ReferenceImages(Section):
    """Real images to train on in place of surrogate ones: a reference, which is not data-free."""

    data: ReferenceData
    labels: Literal["hard", "teacher"] = Field(
        description="hard: the data set's own, which must be classes of the teacher, as its "
        "training set has them (Original). teacher: the classes that the teacher sees in them, of "
        "any other set (Public), resized to the teacher's size. Both come with its soft outputs."
    )


class TrainingConfig(Section):
    """Surrogate images to student."""

    data: Text | None = Field(None, description="A surrogate data set to reuse instead of our own.")
    images: ReferenceImages | None = Field(
        None,
        description="Real images to train on instead, as a reference: the student is then not "
        "data-free, which every output says.",
    )
    epochs: Count = 100
    batch_size: Count = 200
    learning_rate: LearningRate = 1e-4
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = True
    weight_decay: NonNegative = 1e-4
    schedule: ScheduleConfig = Field(
        VariantConfig(name="constant"),
        description="How the learning rate changes from update to update.",
    )
    objective: ObjectiveConfig = VariantConfig(name="soft-label")
    gradrefine: GradRefineConfig = GradRefineConfig()
    inner: InnerConfig = InnerConfig()
    average: AverageConfig = Field(
        VariantConfig(name="none"),
        description="Whether the student that is measured and kept is an average over updates.",
    )
    augmentations: tuple[AugmentationConfig, ...] = Field(
        (),
        description="Random changes of the images whenever they are trained on, one after the "
        "other; the teacher is asked again for its logits of what they change.",
    )
    weight_perturbation: Annotated[float, Field(gt=0, le=0.1)] | None = Field(
        None,
        description="Radius of the adversarial weight perturbation at which gradients are taken, "
        "as a share of the norm of each layer's weights; 0.005 is usual. None: at the weights.",
    )
    select: Literal["last", "holdout"] = Field(
        "last",
        description="Keep the last epoch, or the best on the synthetic hold-out by `measure`.",
    )
    measure: MeasureConfig = Field(
        VariantConfig(name=DEFAULT_MEASURE),
        description="What is measured on the synthetic hold-out, for at most 5 % of the training: "
        "epochs are kept by it (select: holdout), and settings of a sweep are compared.",
    )
    checkpoint_every: Count | None = Field(
        None,
        description="Updates between checkpoints. None: every update, as long as writing them "
        "takes 2 % of the time at most.",
    )
    engine: EngineConfig = EngineConfig()

    def check_augmentations(self, image_shape: tuple[int, int, int]) -> None:
        """Check that the augmentations leave something of images of a shape (c, h, w).

        Raises:
            InputError: naming the key, if one does not.
        """
        for position, augmentation in enumerate(self.augmentations):
            made = augmentations().make(augmentation.name, **augmentation.options)
            try:
                made.require_fits(image_shape)
            except InputError as error:
                raise InputError(f"training.augmentations.{position}.{error}") from None

    @model_validator(mode="after")
    def _kept_perturbations_are_of_images_as_they_are(self) -> "TrainingConfig":
        if self.inner.start == "kept" and self.augmentations:
            raise ValueError(
                "inner.start: kept is of the images as they are: leave augmentations out"
            )
        return self

    @model_validator(mode="after")
    def _one_kind_of_images(self) -> "TrainingConfig":
        if self.images is None:
            return self
        if self.data is not None:
            raise ValueError("images: not beside data, which names surrogate images: give one")
        if self.select == "holdout":
            raise ValueError("select: holdout needs synthetic images, but images names real ones")
        return self

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> "TrainingConfig":
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        return self
