"""Sections of the configuration, one frozen model each: threat, synthesis, cluster, storage."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dfshield.config.families import augment, diversity, synthesizers
from dfshield.config.values import Count, NonNegative, Size, Step, Text
from dfshield.config.variants import VariantConfig, VariantOf


class Section(BaseModel):
    """A section of the configuration: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class ThreatConfig(Section):
    """What the student is hardened against and, unless an attack says otherwise, tested with."""

    norm: Literal["linf", "l2"] = "linf"
    eps: Size = "4/255"
    step_size: Step | None = Field(
        None,
        description="Step size of the evaluation's PGD only, None: eps / 4; that of training is "
        "training.inner.step_size.",
    )


class EngineConfig(Section):
    """How the work is computed: the same mathematics, to within rounding, at another speed."""

    precision: Literal["auto", "float32", "tf32", "bfloat16"] = Field(
        "auto",
        description="Of convolutions and matrix products. auto: what the engine trial chooses; "
        "without one bfloat16 where compiled work runs on a CPU that multiplies in it, else "
        "float32.",
    )
    compile: Literal["auto", "graph"] | bool = Field(
        "auto",
        description="Compile the classifier's passes (torch.compile). auto: what the engine trial "
        "chooses; without one, long work on CPUs. graph: replay plain passes from a CUDA graph.",
    )
    batches_per_pass: Count | None = Field(
        None,
        description="Batches that share a pass, where memory is plenty. None: 1; on GPUs as many "
        "as fit, where the engine trial finds that faster.",
    )


DEFAULT_SYNTHESIZER = "dss"

SynthesizerConfig = Annotated[VariantConfig, VariantOf(synthesizers, default=DEFAULT_SYNTHESIZER)]
AugmentConfig = Annotated[VariantConfig | None, VariantOf(augment, optional=True)]
DiversityConfig = Annotated[VariantConfig, VariantOf(diversity)]


BY_METHOD = "method"
"""As ``synthesis.data``: the set that ``synthesis.method`` makes, which a sweep shares."""


class SynthesisConfig(Section):
    """Teacher to surrogate images."""

    method: SynthesizerConfig = Field(
        VariantConfig(name=DEFAULT_SYNTHESIZER),
        description="How images are made: a synthesizer with its options. The options of dss may "
        "also stand beside it, as in earlier releases: synthesis.iterations is read as "
        "synthesis.method.iterations.",
    )
    augment: AugmentConfig = Field(
        None,
        description="Change the images of another set, synthesis.data, instead of making some: an "
        "augmentation with its options. synthesis.method then has no part in it.",
    )
    data: Text | None = Field(
        None,
        description="The set whose images synthesis.augment changes: a run, or the folder of a "
        "set, made from the same teacher; in a sweep also `method`, the one that synthesis.method "
        "makes.",
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
    diversity: tuple[DiversityConfig, ...] = Field(
        (VariantConfig(name="prediction-entropy"),),
        description="How diverse the images are is measured by these once they are made, without "
        "real images; [] measures nothing.",
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
