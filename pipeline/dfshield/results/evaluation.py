"""The result of one attack on one model and one data set, with what keeps it honest beside it."""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from dfshield.brief import BriefModel, Shown, brief
from dfshield.epsilon import Norm
from dfshield.results.kept_json import read_kept

FORMAT_VERSION = 6
WORST_CASE = "worst-case"
"""Name of the attack that stands for several together."""
WORST_OF = "Worst of"
"""How its label begins."""

Share = Annotated[float, Field(ge=0, le=1)]


class DataInfo(BaseModel):
    """Which images were evaluated.

    Attributes:
        name: of the data set.
        split: which part of it.
        fingerprint: of these images and their labels.
        num_images: how many.
        sampled_from: how many images the split has, if these are a stratified sample of them.
        sample_seed: of that sample.
        trained_on: how many of these images the model's teacher was trained on; None if unknown.
        chosen_on: how many chose the epoch of that training, but were not trained on.
        remarks: what has to be said of these images wherever a figure on them stands.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    split: str
    fingerprint: str
    num_images: int
    sampled_from: int | None = None
    sample_seed: int | None = None
    trained_on: int | None = None
    chosen_on: int | None = None
    remarks: tuple[str, ...] = ()

    def identity(self) -> dict[str, str | int | None]:
        """Return which images these are, without what is said of them."""
        return self.model_dump(exclude={"trained_on", "chosen_on", "remarks"})


class EvaluationResult(BriefModel):
    """Accuracy of one model under one attack, and everything needed to repeat and to judge it.

    Attributes:
        model: what the model is called, such as ``student``.
        model_fingerprint: of architecture and weights; None for a model that has none.
        data_free: whether the model was hardened without a real image; None if it was not hardened,
            or that is not known, as in results of formats 1 to 4.
        defence: name and options of the test-time defence that the model stood behind, and
            ``leaks`` for one that was fitted to test images; None without one, and in results of
            formats 1 to 3, which had none.
        adaptive: whether the attack knew of the defence; None without one, for clean images, and in
            results of formats 1 to 5.
        adaptive_how: by what it did (EOT, BPDA, queries, the gradient through the defence), or why
            it did not; None as above.
        data: name, split, fingerprint and size of the set.
        attack: every hyper-parameter; None for clean images.
        label: the attack's name for tables, or ``clean``.
        norm: of the threat model; None for clean images.
        eps: radius on the [0, 1] scale; None for clean images.
        num_images: images evaluated.
        num_correct: images right both clean and under attack.
        accuracy: ``num_correct / num_images``, in [0, 1].
        interval: 95 % Wilson score interval of the accuracy.
        floor: accuracy of the best constant classifier, which no attack can lower: the share of the
            most frequent label.
        majority_class: that label.
        balanced_accuracy: mean over the classes present of the share of correct images.
        prediction_histogram: how often each class was predicted (under attack).
        collapsed: more than 95 % of these predictions are one class.
        below_floor: accuracy below the floor.
        standard_suite: whether an attack that is a published suite ran as such; else None.
        non_finite: images that count as wrong because of logits that are not finite.
        randomised: whether the model answered the same images differently when asked twice; None
            in results of format 1, which did not ask.
        probabilities: whether it answers with probabilities instead of logits; None in results of
            formats 1 and 2, which did not look.
        queries: images that the attack had the model answer, per attacked image; None as above.
        max_perturbation: the largest one seen, in ``norm``.
        notes: what the attack warned of, and what the flags above mean.
        seed: of the evaluation; slice i uses the i-th seed derived from it.
        slice_size: images per slice.
        seconds: of computation, summed over slices.
        versions: of the packages that decide the result.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    format_version: int = FORMAT_VERSION
    model: str
    model_fingerprint: str | None
    data_free: bool | None = None
    defence: dict[str, Any] | None = None
    adaptive: bool | None = None
    adaptive_how: str | None = None
    data: DataInfo
    attack: dict[str, str | int | float | bool] | None
    label: str
    norm: Norm | None
    eps: float | None
    num_images: int
    num_correct: int
    accuracy: Share
    interval: tuple[Share, Share]
    floor: Share
    majority_class: int
    balanced_accuracy: Share
    prediction_histogram: tuple[int, ...]
    collapsed: bool
    below_floor: bool
    standard_suite: bool | None
    non_finite: int
    randomised: bool | None = None
    probabilities: bool | None = None
    queries: float | None = None
    max_perturbation: float
    notes: tuple[str, ...]
    seed: int
    slice_size: int
    seconds: float
    versions: dict[str, str]

    @property
    def flags(self) -> tuple[str, ...]:
        """What a reader must know before trusting the accuracy."""
        raised = {
            "collapsed": self.collapsed,
            "below the floor": self.below_floor,
            "not the standard suite": self.standard_suite is False,
            "non-finite logits": self.non_finite > 0,
            "randomised": bool(self.randomised),
            "probabilities instead of logits": bool(self.probabilities),
            "test data in the defence": bool((self.defence or {}).get("leaks")),
            "not adaptive": self.adaptive is False,
        }
        return tuple(flag for flag, up in raised.items() if up)

    def __repr_args__(self) -> Iterator[tuple[str, object]]:
        """Return what to show of it: the accuracy with all that keeps it honest."""
        yield "model", self.model
        yield "attack", self.label
        if self.eps is not None:
            yield "norm", self.norm
            yield "eps", Shown(f"{self.eps:.4g}")
        yield "accuracy", Shown(f"{self.accuracy:.4f}")
        yield "interval", Shown(f"[{self.interval[0]:.4f}, {self.interval[1]:.4f}]")
        yield "floor", Shown(f"{self.floor:.4f}")
        yield "num_images", self.num_images
        for flag in ("collapsed", "below_floor", "randomised", "probabilities"):
            if getattr(self, flag):
                yield flag, True
        if self.notes:
            yield "notes", brief(self.notes)

    def to_json(self) -> str:
        """Return the result as JSON text."""
        return self.model_dump_json(indent=2)

    @classmethod
    def from_json(cls, text: str, *, source: str = "evaluation result") -> "EvaluationResult":
        """Return the result that :meth:`to_json` wrote.

        Args:
            text: the JSON.
            source: how errors call it, such as the path of the file.

        Raises:
            InputError: for text that is no such result, or one of a newer format.
        """
        return read_kept(cls, text, newest=FORMAT_VERSION, source=source)
