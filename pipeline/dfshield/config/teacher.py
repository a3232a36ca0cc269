"""The sections of the configuration that name a classifier, and real images."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from dfshield.config.sections import Section
from dfshield.config.values import ClassName, Count, LearningRate, NonNegative, PerChannel, Text


def names_folder(source: str) -> bool:
    """Return whether a model's source is the path or URI of a folder, and no ``family:name``."""
    family, colon, _ = source.partition(":")
    return not colon or "/" in family or "://" in source


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
