"""The whole configuration, and what its sections must fit together in."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from dfshield.config.evaluation import AuditConfig, EvaluationConfig, check_attack
from dfshield.config.families import averages, baselines, trackers
from dfshield.config.presets import PRESETS
from dfshield.config.sections import (
    ClusterConfig,
    Section,
    StorageConfig,
    SynthesisConfig,
    ThreatConfig,
)
from dfshield.config.sweep import SweepConfig
from dfshield.config.teacher import TeacherConfig
from dfshield.config.training import TrainingConfig
from dfshield.config.values import Name, Seed
from dfshield.config.variants import VariantConfig, VariantOf
from dfshield.errors import InputError

TrackerConfig = Annotated[VariantConfig, VariantOf(trackers)]
MethodConfig = Annotated[VariantConfig | None, VariantOf(baselines, optional=True)]


def _presets(schema: dict[str, Any]) -> None:
    schema["enum"] = [*PRESETS, None]
    schema["enumDescriptions"] = [*PRESETS.values(), "no preset"]  # which editors show


class Config(Section):
    """The whole configuration of a run."""

    name: Name
    preset: str | None = Field(
        None,
        description="Defaults to start from, as `config show` tells them: paper/... are the "
        "paper's, official/... those of its authors' code, robust/... the paper's with ingredients "
        "that should make a more robust student, fast/... with fewer iterations and attack steps.",
        json_schema_extra=_presets,
    )
    seed: Seed = 0
    seeds: tuple[Seed, ...] | None = Field(None, description="Several: mean and spread reported.")
    teacher: TeacherConfig
    threat: ThreatConfig = ThreatConfig()
    method: MethodConfig = Field(
        None,
        description="Another data-free method in place of synthesis and training: a baseline with "
        "its options, which trains a generator and the student together. Of `training` it takes "
        "`inner` and `checkpoint_every` alone. None: images are synthesised and trained on.",
    )
    synthesis: SynthesisConfig = SynthesisConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    audit: AuditConfig = AuditConfig()
    sweep: SweepConfig = SweepConfig()
    cluster: ClusterConfig = ClusterConfig()
    storage: StorageConfig = StorageConfig()
    trackers: tuple[TrackerConfig, ...] = Field(
        (VariantConfig(name="tensorboard"),),
        description="Who is told the metrics while the run works, by name or with options; []: "
        "nobody. mlflow and wandb learn from their own environment variables where to keep them.",
    )

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """The seeds of the run, one or more."""
        return self.seeds or (self.seed,)

    @property
    def data_free(self) -> bool:
        """Whether nothing but the teacher makes the student: no real image is trained on."""
        return self.training.images is None

    @property
    def surrogate(self) -> bool:
        """Whether the student is trained on a surrogate data set."""
        return self.training.images is None and self.method is None

    @model_validator(mode="after")
    def _seeds_differ(self) -> "Config":
        if self.seeds is not None:
            if not self.seeds or len(set(self.seeds)) != len(self.seeds):
                raise ValueError("seeds must be a list of different seeds")
            if "seed" in self.model_fields_set:
                raise ValueError("give either seed or seeds, not both")
        return self

    @model_validator(mode="after")
    def _other_norms_have_eps(self) -> "Config":
        for position, attack in enumerate(self.evaluation.attacks):
            norm = attack.options.get("norm", self.threat.norm)
            if norm != self.threat.norm and "eps" not in attack.options:
                raise ValueError(
                    f"evaluation.attacks.{position}.eps: give eps, since norm {norm} differs from "
                    f"the threat's {self.threat.norm}"
                )
        return self

    @model_validator(mode="after")
    def _attacks_can_be_built(self) -> "Config":
        for position, attack in enumerate(self.evaluation.attacks):
            check_attack(attack, self.threat, key=f"evaluation.attacks.{position}")
        return self

    @model_validator(mode="after")
    def _trackers_differ(self) -> "Config":
        names = [tracker.name for tracker in self.trackers]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"trackers: {twice[0]} stands there twice")
        return self

    @model_validator(mode="after")
    def _sizes_fit(self) -> "Config":
        batch = self.synthesis.batch_size
        for key, size in (
            ("storage.part_size", self.storage.part_size),
            ("storage.shard_size", self.storage.shard_size),
            ("synthesis.num_images", self.synthesis.num_images),
        ):
            if size % batch:
                nearest = max(batch, round(size / batch) * batch)
                raise ValueError(
                    f"synthesis.batch_size: {batch} does not divide {key} = {size}; "
                    f"try {key}={nearest}"
                )
        if self.storage.shard_size % self.storage.part_size:
            raise ValueError(
                f"storage.part_size: {self.storage.part_size} does not divide "
                f"storage.shard_size = {self.storage.shard_size}"
            )
        return self

    @model_validator(mode="after")
    def _group_fits_epoch(self) -> "Config":
        if self.training.data is not None or not self.surrogate:
            return self  # known only when the data set is read
        batches = -(-self.synthesis.num_images // self.training.batch_size)
        check_group(self.training.gradrefine.num_batches, batches)
        check_last_batch(self.training.batch_size, self.synthesis.num_images)
        return self

    @model_validator(mode="after")
    def _average_begins(self) -> "Config":
        average = self.training.average
        try:
            averages().make(average.name, **average.options).require_begun(self.training.epochs)
        except InputError as error:
            raise ValueError(f"training.average.{error}") from None
        return self

    @model_validator(mode="after")
    def _augmentations_leave_something(self) -> "Config":
        if self.teacher.input_shape is not None:
            self.training.check_augmentations(self.teacher.input_shape)
        return self

    @model_validator(mode="after")
    def _test_images_are_not_trained_on(self) -> "Config":
        images, measured = self.training.images, self.evaluation.data
        if images is not None and measured is not None:
            kept = {"name", "path", "split"}
            if images.data.model_dump(include=kept) == measured.model_dump(include=kept):
                raise ValueError(
                    f"training.images.data: is the split that evaluation.data measures on "
                    f"({measured.name}, {measured.split}): a student is never trained on test "
                    "images; name another split"
                )
        return self

    @model_validator(mode="after")
    def _augment_has_images(self) -> "Config":
        augment, data = self.synthesis.augment, self.synthesis.data
        if augment is not None and data is None:
            raise ValueError("synthesis.data: name the set whose images synthesis.augment changes")
        if data is not None and augment is None:
            raise ValueError(
                "synthesis.augment: say how the images of synthesis.data are changed; "
                "training.data trains on those of a set as they are"
            )
        return self

    @model_validator(mode="after")
    def _method_stands_alone(self) -> "Config":
        if self.method is None:
            return self
        name, training = self.method.name, self.training
        for key, given in (
            ("training.data", training.data),
            ("training.images", training.images),
            ("synthesis.augment", self.synthesis.augment),
        ):
            if given is not None:
                raise ValueError(f"{key}: not beside method, since {name} makes its own images")
        if training.inner.loss not in (None, "kl"):
            raise ValueError(f"training.inner.loss: must be kl or left out with method {name}")
        if training.select != "last":
            raise ValueError(
                f"training.select: {name} has no synthetic hold-out to choose epochs by: take last"
            )
        return self

    @model_validator(mode="after")
    def _holdout_exists(self) -> "Config":
        if self.training.select == "holdout" and self.synthesis.num_holdout == 0:
            raise ValueError("training.select: holdout needs synthesis.num_holdout above 0")
        return self


def check_group(num_batches: int, batches_per_epoch: int) -> None:
    """Refuse a GradRefine group that is larger than an epoch.

    Raises:
        ValueError: naming the key and the largest value.
    """
    if num_batches > batches_per_epoch:
        raise ValueError(
            f"training.gradrefine.num_batches: {num_batches} is more than the "
            f"{batches_per_epoch} mini-batches of an epoch"
        )


def check_last_batch(batch_size: int, num_images: int) -> None:
    """Check that no mini-batch of an epoch is of one image, when others are of more.

    Raises:
        ValueError: naming the key, with a size that does.
    """
    if num_images % batch_size == 1:
        raise ValueError(
            f"training.batch_size: {batch_size} leaves one image for the last mini-batch of "
            f"{num_images}, too few for BatchNorm; try {batch_size + 1}"
        )
