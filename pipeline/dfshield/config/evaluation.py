"""The sections of what is measured on real images: evaluation and audit."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from dfshield.config.families import attacks, corruptions, defences
from dfshield.config.sections import Section, ThreatConfig
from dfshield.config.teacher import DataConfig
from dfshield.config.values import Count, Text
from dfshield.config.variants import VariantConfig, VariantOf
from dfshield.errors import InputError

AttackConfig = Annotated[VariantConfig, VariantOf(attacks, build=False)]
Severity = Annotated[int, Field(ge=1, le=5)]
CorruptionConfig = Annotated[VariantConfig, VariantOf(corruptions)]
DefenceConfig = Annotated[VariantConfig, VariantOf(defences)]


class EvaluationData(DataConfig):
    """The real images that robustness is measured on."""

    split: Literal["train", "val", "test"] = "test"


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


class CorruptionsConfig(Section):
    """Common corruptions, a measurement beside the attacks."""

    names: Annotated[tuple[CorruptionConfig, ...], Field(min_length=1)] | None = Field(
        None, description="As RobustBench calls them, such as gaussian_noise; None: all fifteen."
    )
    severities: Annotated[tuple[Severity, ...], Field(min_length=1)] = (1, 2, 3, 4, 5)

    @property
    def chosen(self) -> tuple[str, ...]:
        """The names, all if none is given."""
        return tuple(corruptions() if self.names is None else (each.name for each in self.names))


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
        VariantConfig.model_validate({"name": "pgd", "num_steps": 20}),
        VariantConfig(name="autoattack"),
    )
    defences: tuple[DefenceConfig, ...] = Field(
        (), description="Test-time defences: the teacher behind each is measured beside it."
    )
    corruptions: CorruptionsConfig | None = Field(
        None, description="Accuracy on corrupted images, too; `{}` for all of them."
    )
    slice_size: Count = Field(250, description="Images attacked together, under one seed.")
    keep_adversarial: bool = Field(
        False, description="Keep the adversarial images, a safetensors file per slice."
    )
    robustbench: RobustBenchConfig = RobustBenchConfig()

    @model_validator(mode="after")
    def _defences_differ(self) -> "EvaluationConfig":
        for position, defence in enumerate(self.defences):
            if defence in self.defences[:position]:
                raise ValueError(f"defences.{position}: {defence.name} stands there twice")
        return self


class AuditConfig(Section):
    """Which model is audited for masked gradients, and on how many of the test images."""

    model: Literal["teacher", "student"] = "student"
    defence: DefenceConfig | None = Field(
        None, description="The model is audited behind it, with two lines more."
    )
    num_images: Count = Field(200, description="A stratified sample of evaluation.data.")
    autoattack: bool = Field(
        True, description="Compare with AutoAttack, which takes most of the time."
    )


def attack_options(attack: VariantConfig, threat: ThreatConfig) -> dict[str, Any]:
    """Return the options of an attack; norm, eps and step default to the threat model's.

    Raises:
        InputError: for an unknown attack.
    """
    from dfshield.attacks import ATTACKS, needs_eps

    options: dict[str, Any] = {}
    # An attack with an eps of its own, such as unbounded PGD, has none of the threat model's.
    if needs_eps(attack.name):
        options = {"eps": threat.eps, "norm": threat.norm}
        takes_step = ATTACKS[attack.name].takes_step
        if takes_step and threat.step_size is not None and "eps" not in attack.options:
            options["step_size"] = threat.step_size
    return options | attack.options


def check_attack(attack: VariantConfig, threat: ThreatConfig, *, key: str) -> None:
    """Check an attack by building it; the other model that some need is looked for by the run.

    Args:
        attack: what is checked.
        threat: whose norm, eps and step it has where it gives none.
        key: where the configuration names it, for the error.

    Raises:
        InputError: for an unknown attack or option, or a value that makes no sense.
    """
    from torch import nn

    from dfshield.attacks import ATTACKS

    try:
        options = attack_options(attack, threat)
        model = ATTACKS[attack.name].needs_model
        if model is not None:
            options[model] = nn.Identity()
        ATTACKS.make(attack.name, **options)
    except InputError as error:
        blames = ATTACKS.names_option(error, attack.name, attack.options)
        raise InputError(f"{key}{'.' if blames else ': '}{error}") from None
