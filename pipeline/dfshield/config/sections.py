"""The sections of the configuration: one frozen model each."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)

from dfshield.config.values import (
    ClassName,
    Count,
    LearningRate,
    NonNegative,
    PerChannel,
    Size,
    Step,
    Text,
)
from dfshield.config.variants import VariantConfig, VariantOf
from dfshield.families import Family


def names_folder(source: str) -> bool:
    """Return whether a model's source is the path or URI of a folder, and no ``family:name``."""
    family, colon, _ = source.partition(":")
    return not colon or "/" in family or "://" in source


class Section(BaseModel):
    """A section of the configuration: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def _data_set_names(schema: dict[str, Any]) -> None:
    from dfshield.datasets import DATASETS  # here, since only the schema needs it

    schema["enum"] = list(DATASETS)


class DataConfig(Section):
    """A real data set, used only to train a teacher and to evaluate."""

    name: str = Field(
        description="digits, a MedMNIST name, cifar10, cifar100, svhn, npz, folder",
        json_schema_extra=_data_set_names,
    )
    path: Text | None = Field(None, description="File or folder; $VARIABLES are expanded.")


class EvaluationData(DataConfig):
    """The real images that robustness is measured on."""

    split: Literal["train", "val", "test"] = "test"


class TeacherTraining(Section):
    """How `dfshield teacher` trains a teacher on real images, when none is brought."""

    data: DataConfig
    epochs: Count = 100
    batch_size: Count = 128
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: LearningRate = 1e-3
    weight_decay: NonNegative = 0.0
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (0.5, 0.75), description="Shares of the epochs after which the learning rate falls tenfold."
    )
    select: Literal["auc", "last"] = Field("auc", description="Which epoch is kept.")


class TeacherConfig(Section):
    """The classifier to harden."""

    source: Text = Field(
        description="pytorchcv:resnet20_cifar10, medmnist:resnet18, dfshield:resnet20 or "
        "python:package.module:factory; or a folder: that of a saved classifier, such as a run's "
        "student, or a run, which stands for its student. All else is then known from there."
    )
    options: dict[str, Any] = Field({}, description="Keyword arguments of the architecture.")
    weights: Text | None = Field(
        None,
        description='A .safetensors or state_dict file, "download" (pytorchcv), or the folder of a '
        "classifier that was saved with this source. None: trained as `train` says, or brought by "
        "a python: factory or a folder.",
    )
    input_shape: tuple[Count, Count, Count] | None = Field(
        None, description="Channels, height, width; None where the source fixes it."
    )
    num_classes: Annotated[int, Field(ge=2)] | None = None
    class_names: tuple[ClassName, ...] | None = Field(
        None, description="In the order of the logits; images are matched with them by name."
    )
    mean: PerChannel | None = Field(
        None,
        description="Normalisation, per channel, on the [0, 1] scale of the images; one number "
        "stands for all channels. None: what the weights file or the family says, else a python: "
        "factory is given images in [0, 1] as they are.",
    )
    std: PerChannel | None = Field(None, description="Normalisation, as mean.")
    train: TeacherTraining | None = None
    trust_python: bool = Field(
        False,
        exclude=True,  # a permission, which no run keeps
        description="Call the python: factory that a folder names; --trust-python says the same.",
    )

    @property
    def is_saved(self) -> bool:
        """Whether `source` is a folder, and no ``family:name``."""
        return names_folder(self.source)

    @model_validator(mode="after")
    def _names_differ(self) -> "TeacherConfig":
        names = self.class_names or ()
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"class_names: {twice[0]!r} stands there twice")
        return self

    @model_validator(mode="after")
    def _one_origin(self) -> "TeacherConfig":
        neither = self.weights is None and self.train is None
        both = self.weights is not None and self.train is not None
        if self.is_saved:
            if neither:
                return self
            raise ValueError(
                f'source: {self.source!r} is no "family:name", such as "dfshield:resnet20", so it '
                "names a folder, which brings its own weights: leave weights and train out"
            )
        if both or (neither and not self.source.startswith("python:")):
            raise ValueError("give either weights (a trained teacher) or train (how to make one)")
        return self


class ThreatConfig(Section):
    """What the student is hardened against and, unless an attack says otherwise, tested with."""

    norm: Literal["linf", "l2"] = "linf"
    eps: Size = "4/255"
    step: Step | None = Field(
        None,
        description="Step size of the evaluation's PGD only, None: eps / 4; that of training is "
        "training.inner.step.",
    )


class EngineConfig(Section):
    """How the work is computed: the same mathematics, to within rounding, at another speed."""

    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Of convolutions and matrix products. auto: bfloat16 where compiled work runs "
        "on a CPU that multiplies in it, else float32.",
    )
    compile: Literal["auto"] | bool = Field(
        "auto",
        description="Compile the classifier's passes (torch.compile). auto: long work on CPUs; "
        "on GPUs it has to be asked for.",
    )
    batches_per_pass: Count | None = Field(
        None, description="Batches that share a pass, where memory is plenty. None: 1."
    )


def _synthesizers() -> Family[Any]:
    from dfshield.synthesis import SYNTHESIZERS  # here, since torch loads slowly

    return SYNTHESIZERS


def _objectives() -> Family[Any]:
    from dfshield.training.objectives import OBJECTIVES  # likewise

    return OBJECTIVES


def _attacks() -> Family[Any]:
    from dfshield.attacks import ATTACKS  # likewise

    return ATTACKS


DEFAULT_SYNTHESIZER = "dss"

SynthesizerConfig = Annotated[VariantConfig, VariantOf(_synthesizers, default=DEFAULT_SYNTHESIZER)]
ObjectiveConfig = Annotated[VariantConfig, VariantOf(_objectives, default="soft-label")]
AttackConfig = Annotated[VariantConfig, VariantOf(_attacks, build=False)]
"""What the pipeline supplies, such as the threat model's eps, is not known here."""


class SynthesisConfig(Section):
    """Teacher to surrogate images."""

    method: SynthesizerConfig = Field(
        VariantConfig(name=DEFAULT_SYNTHESIZER),
        description="How images are made: a synthesizer with its options. The options of dss may "
        "also stand beside it, as in earlier releases: synthesis.iterations is read as "
        "synthesis.method.iterations.",
    )
    num_images: Count = 60_000
    num_holdout: Annotated[int, Field(ge=0)] = Field(
        1000, description="Extra class-balanced images that are never trained on."
    )
    batch_size: Count = Field(200, description="Images that are made together.")
    checkpoint_every: Count | None = Field(
        None,
        description="Keep the state of an unfinished part every so many iterations, so that an "
        "interruption costs no more than these, and of the fit of a generator every so many "
        "steps. None: of a part only when a node is about to be taken away, of a fit every 100.",
    )
    engine: EngineConfig = EngineConfig()


class GradRefineConfig(Section):
    """GradRefine (equations 9 and 10)."""

    num_batches: Count = Field(20, description="K: mini-batches refined together; 1 is off.")
    tau: Annotated[float, Field(ge=0, le=1)] = 0.5


class InnerConfig(Section):
    """PGD inside training; its norm and eps are the threat's."""

    steps: Count = 10
    step: Step | None = Field(None, description="None: eps / 4 (linf), 2 eps / steps (l2).")
    loss: Literal["kl", "teacher-kl", "ce"] | None = Field(
        None,
        description="What is maximised: kl of student and student, teacher-kl of teacher and "
        "student, ce on artificial labels. None: as the objective says.",
    )
    start: Literal["gaussian", "uniform"] | None = Field(
        None,
        description="Where it starts: 0.001 N(0, I), or uniformly in the ball. None: likewise.",
    )


class TrainingConfig(Section):
    """Surrogate images to student."""

    data: Text | None = Field(None, description="A surrogate data set to reuse instead of our own.")
    epochs: Count = 100
    batch_size: Count = 200
    learning_rate: LearningRate = 1e-4
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = True
    weight_decay: NonNegative = 1e-4
    objective: ObjectiveConfig = VariantConfig(name="soft-label")
    gradrefine: GradRefineConfig = GradRefineConfig()
    inner: InnerConfig = InnerConfig()
    select: Literal["last", "holdout"] = Field(
        "last", description="Keep the last epoch, or the best on the synthetic hold-out."
    )
    checkpoint_every: Count | None = Field(
        None,
        description="Updates between checkpoints. None: every update, as long as writing them "
        "takes 2 % of the time at most.",
    )
    engine: EngineConfig = EngineConfig()

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> "TrainingConfig":
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class RobustBenchConfig(Section):
    """What a RobustBench entry says beside the figures that are measured."""

    name: Text | None = Field(None, description="None: the run's name.")
    architecture: Text | None = Field(None, description="None: the classifier's source.")
    dataset: Text | None = Field(None, description="None: the name of evaluation.data.")
    link: Text = ""
    authors: Text = ""
    venue: Text = "N/A"
    additional_data: bool = False
    reported: Text = Field("", description="Robust accuracy that was claimed, in percent.")
    footnote: Text = ""


class EvaluationConfig(Section):
    """Teacher and student on real images, clean and attacked."""

    data: EvaluationData | None = Field(
        None,
        description="The real images. None: no evaluation; the report says what synthetic images "
        "tell, and that no real image was measured.",
    )
    num_images: Count | None = Field(None, description="A stratified sample; None: all images.")
    models: Annotated[tuple[Literal["teacher", "student"], ...], Field(min_length=1)] = (
        "teacher",
        "student",
    )
    attacks: tuple[AttackConfig, ...] = (
        VariantConfig.model_validate({"name": "pgd", "steps": 20}),
        VariantConfig(name="autoattack"),
    )
    slice_size: Count = Field(250, description="Images attacked together, under one seed.")
    keep_adversarial: bool = Field(
        False, description="Keep the adversarial images, a safetensors file per slice."
    )
    robustbench: RobustBenchConfig = RobustBenchConfig()


class AuditConfig(Section):
    """Which model is audited for masked gradients, and on how many of the test images."""

    model: Literal["teacher", "student"] = "student"
    num_images: Count = Field(200, description="A stratified sample of evaluation.data.")
    autoattack: bool = Field(
        True, description="Compare with AutoAttack, which takes most of the time."
    )


class ClusterConfig(Section):
    """Where the work is done."""

    address: Annotated[str, Field(min_length=1)] = Field(
        "local",
        description="local: a Ray of our own on this machine; auto: the Ray that RAY_ADDRESS or "
        "this machine knows; HOST:PORT: that Ray; none: in this process, without Ray. If left out, "
        "RAY_ADDRESS is joined where it is set.",
    )
    num_workers: Count | None = Field(
        None,
        description="One a GPU, or a slot of the CPUs where there is no GPU. None: every GPU, or "
        "as many slots as a node has cores, four at most.",
    )
    min_workers: Count = Field(
        1,
        description="The fewest workers that the training goes on with: it waits for more when "
        "there are less. Any number gives the same student.",
    )
    gpus_per_worker: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None,
        description="0.25 puts four workers on a GPU, for small classifiers; 0 works on CPU slots. "
        "The training takes whole GPUs. None: one GPU, or CPU slots where there is no GPU.",
    )
    wait: NonNegative = Field(
        0.0,
        description="Seconds to wait for a cluster to have room for a worker, as one that scales "
        "from zero; it begins with the first and goes on with more as they come. 0: there must be "
        "room for all of num_workers at once.",
    )
    max_retries: Annotated[int, Field(ge=0)] = Field(
        3, description="How often a unit of work is begun again after its worker died."
    )

    @model_validator(mode="after")
    def _fewest_are_no_more_than_most(self) -> "ClusterConfig":
        if self.num_workers is not None and self.min_workers > self.num_workers:
            raise ValueError(
                f"min_workers: {self.min_workers} is more than num_workers = {self.num_workers}"
            )
        return self


class StorageConfig(Section):
    """Where runs lie and how surrogate images are stored."""

    path: Text = Field("runs", description="The folder that holds the run folders.")
    sink: Literal["parquet", "object_store"] = Field(
        "parquet",
        description="Where surrogate images go; object_store: only into memory, to train in the "
        "same command. It cannot be resumed.",
    )
    image_dtype: Literal["float32", "float16", "uint8"] = "float32"
    part_size: Count = Field(1000, description="Images per part, the unit of commit.")
    shard_size: Count = Field(10_000, description="Images per shard.")
