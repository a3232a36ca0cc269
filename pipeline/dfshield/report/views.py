"""The plain mappings that the report is given, checked once and typed from there on."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from dfshield.epsilon import Norm
from dfshield.errors import InputError
from dfshield.results import HoldoutMetrics, Share

SynthesisView: TypeAlias = Mapping[str, Any]
"""The fields of :class:`Synthesis`; further ones are ignored."""


ReferenceView: TypeAlias = Mapping[str, Any]
"""The fields of :class:`Reference`, likewise."""

BaselineView: TypeAlias = Mapping[str, Any]
"""The fields of :class:`BaselineMethod`, likewise."""


class View(BaseModel):
    """Base of what is read from outside: immutable, fields that are not shown are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Teacher(View):
    """The classifier that was hardened."""

    source: str
    architecture: str
    fingerprint: str
    input_shape: tuple[int, int, int]
    num_classes: int
    class_names: tuple[str, ...]
    trained_here: bool


class Threat(View):
    """The perturbations that the student was trained against, on the [0, 1] scale of the images."""

    norm: Norm
    eps: float
    step_size: float | None = None


class Diversity(View):
    """A number that tells how diverse the surrogate images are, and what it means."""

    title: str
    unit: str
    description: str
    value: float
    num_images: int
    settings: str = ""


class TriedWay(View):
    """What an engine trial found of one faster way to compute the work."""

    name: str
    verdict: Literal["chosen", "passed", "failed"]
    reason: str
    seconds_to_begin: float
    seconds: float
    faster: float


class EngineTrial(View):
    """The trial by which it was chosen how work is computed; times are of an iteration."""

    plain_seconds: float
    rungs: tuple[TriedWay, ...]


class Synthesis(View):
    """How the surrogate images of one seed were made.

    ``method`` is the synthesizer with its ``description`` and ``options``, ``generator`` the
    fingerprint of its generator, if any; ``picture`` is a PNG, or empty.
    """

    num_images: int
    method: str
    description: str
    options: dict[str, Any]
    generator: str | None = None
    teacher_agreement: Share
    class_counts: tuple[int, ...]
    seconds: float
    engine_trial: EngineTrial | None = None
    picture: bytes = b""
    diversity: tuple[Diversity, ...] = ()


class BaselineMethod(View):
    """The baseline that trained a student together with a generator.

    ``queries`` is what it asks of the teacher, ``num_queries`` of how many images; ``diverged``
    and ``collapsed`` are the steps at which a loss was not finite and all images were equal;
    ``changed`` says how the generator differs from the published one, ``unusual`` what a reader has
    to know; ``picture`` is a PNG.
    """

    name: str
    description: str
    unusual: str
    options: dict[str, Any]
    queries: Literal["labels", "logits", "gradients"]
    num_queries: int
    steps: int
    planned_steps: int
    seconds: float
    diverged: int | None
    collapsed: int | None
    changed: tuple[str, ...]
    generator: str
    picture: bytes

    @property
    def alarms(self) -> list[str]:
        """What has to be said of how it went, in words."""
        said = []
        if self.diverged is not None:
            said.append(
                f"the training diverged at step {self.diverged:,} of {self.planned_steps:,} and "
                "ended there; the student is of before it"
            )
        if self.collapsed is not None:
            said.append(
                f"the generator collapsed: from step {self.collapsed:,} on it made equal images"
            )
        return said


class Reference(View):
    """The real images that a student was trained on in place of surrogate ones.

    ``labels`` is ``hard`` for the data set's own, ``teacher`` for the classes that the teacher saw;
    ``remarks`` are what was done to the images.
    """

    name: str
    split: str
    num_images: int
    labels: Literal["hard", "teacher"]
    remarks: tuple[str, ...] = ()


class Update(View):
    """One optimizer step of training; ``terms`` are those of the objective by name."""

    epoch: int
    loss: float
    terms: dict[str, float] = {}
    agreement_rate: Share | None = None

    @model_validator(mode="before")
    @classmethod
    def _terms_of(cls, record: Mapping[str, Any]) -> Mapping[str, Any]:
        terms = {k.removeprefix(_TERM): v for k, v in record.items() if k.startswith(_TERM)}
        return {**record, "terms": terms}


class Epoch(View):
    """The end of one epoch."""

    epoch: int
    holdout: HoldoutMetrics


_TERM = "loss_"

_V = TypeVar("_V", bound=BaseModel)


def checked(kind: type[_V], given: Mapping[str, Any], what: str) -> _V:
    """Return the mapping as a typed view.

    Raises:
        InputError: a field is missing or has the wrong type; the message names it.
    """
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InputError(f"report: {what}: {field}: {first['msg'].lower()}") from None


def split_history(history: Iterable[Mapping[str, Any]]) -> tuple[list[Update], list[Epoch]]:
    """Return the records of updates and those of epochs, each in the order given."""
    records = list(history)
    updates = [checked(Update, r, "training history") for r in records if "update" in r]
    epochs = [checked(Epoch, r, "training history") for r in records if "holdout" in r]
    return updates, epochs
