"""The result of one attack on one model and one data set, with what keeps it honest beside it."""

import re
import statistics
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict

from dfshield import __version__
from dfshield.attacks import Attack, Norm
from dfshield.classifiers import PROBABILITIES
from dfshield.errors import InputError
from dfshield.evaluation.kept_json import read_kept
from dfshield.evaluation.records import ImageRecords
from dfshield.evaluation.slices import NON_FINITE, SliceResult

FORMAT_VERSION = 3
COLLAPSE_SHARE = 0.95
"""A model that gives more than this share of its predictions to one class has collapsed."""


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


class EvaluationResult(BaseModel):
    """Accuracy of one model under one attack, and everything needed to repeat and to judge it.

    Attributes:
        model: what the model is called, such as ``student``.
        model_fingerprint: of architecture and weights; None for a model that has none.
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
    data: DataInfo
    attack: dict[str, str | int | float | bool] | None
    label: str
    norm: Norm | None
    eps: float | None
    num_images: int
    num_correct: int
    accuracy: float
    interval: tuple[float, float]
    floor: float
    majority_class: int
    balanced_accuracy: float
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


def summarise(
    slices: Sequence[SliceResult],
    *,
    attack: Attack | None,
    data: DataInfo,
    model: str,
    model_fingerprint: str | None,
    seed: int,
    slice_size: int,
) -> EvaluationResult:
    """Return the result of a whole evaluation from its slices, in order.

    Raises:
        InputError: when there is no slice, or they are of models with different class counts.
    """
    counts = {part.num_classes for part in slices}
    if len(counts) != 1:
        raise InputError(f"expected slices of one model, but got class counts {sorted(counts)}")
    num_classes = counts.pop()
    labels = np.concatenate([part.labels for part in slices])
    clean = np.concatenate([part.clean_predictions for part in slices])
    predicted = np.concatenate([part.adversarial_predictions for part in slices])

    correct = (clean == labels) & (predicted == labels)
    num_images, num_correct = len(labels), int(correct.sum())
    label_counts = np.bincount(labels, minlength=num_classes)
    histogram = np.bincount(predicted[predicted != NON_FINITE], minlength=num_classes)
    present = np.unique(labels)
    collapsed = bool(histogram.max() > COLLAPSE_SHARE * num_images)
    non_finite = int((predicted == NON_FINITE).sum())
    randomised = any(part.randomised for part in slices)
    probabilities = _whole([part.probabilities for part in slices])
    flags = _flag_notes(histogram, num_images, collapsed, non_finite, randomised)
    if probabilities:
        flags.append(PROBABILITIES)
    return EvaluationResult(
        model=model,
        model_fingerprint=model_fingerprint,
        data=data,
        attack=attack.describe() if attack else None,
        label=attack.label if attack else "clean",
        norm=attack.norm if attack else None,
        eps=attack.eps if attack else None,
        num_images=num_images,
        num_correct=num_correct,
        accuracy=num_correct / num_images,
        interval=wilson_interval(num_correct, num_images),
        floor=float(label_counts.max() / num_images),
        majority_class=int(label_counts.argmax()),
        balanced_accuracy=float(np.mean([correct[labels == label].mean() for label in present])),
        prediction_histogram=tuple(histogram.tolist()),
        collapsed=collapsed,
        below_floor=num_correct < int(label_counts.max()),
        standard_suite=attack.standard_suite(num_classes) if attack else None,
        non_finite=non_finite,
        randomised=randomised,
        probabilities=probabilities,
        queries=sum(sum(part.queries) for part in slices) / num_images,
        max_perturbation=max(part.max_perturbation for part in slices),
        notes=(*_merge_notes(slices), *flags),
        seed=seed,
        slice_size=slice_size,
        seconds=sum(part.seconds for part in slices),
        versions={
            "dfshield": __version__,
            "torch": str(torch.__version__),
            "pyautoattack": version("pyautoattack"),
        },
    )


WORST_CASE = "worst-case"
"""Name of the attack that stands for several together."""


def summarise_worst_case(
    results: Sequence[EvaluationResult], worst: ImageRecords
) -> EvaluationResult:
    """Return the result of several attacks of one threat model together.

    Args:
        results: of every attack on the same model and images.
        worst: their `worst_case`.

    Raises:
        InputError: if they differ in model, images, norm or eps.
    """
    kinds = {(r.model, r.data.fingerprint, r.norm, r.eps) for r in results}
    if len(kinds) != 1:
        raise InputError("a worst case is over attacks of one threat model on one model and data")
    first, labels = results[0], [result.label for result in results]
    together = SliceResult(
        labels=tuple(worst.label.tolist()),
        clean_predictions=tuple(worst.clean_prediction.tolist()),
        adversarial_predictions=tuple(worst.adversarial_prediction.tolist()),
        clean_margins=(),
        adversarial_margins=(),
        distances=(),
        queries=tuple(worst.queries.tolist()),
        randomised=any(result.randomised for result in results),
        probabilities=_whole([result.probabilities for result in results]),
        num_classes=len(first.prediction_histogram),
        max_perturbation=max(result.max_perturbation for result in results),
        notes=(),
        seconds=sum(result.seconds for result in results),
    )
    summary = summarise(
        [together],
        attack=None,
        data=first.data,
        model=first.model,
        model_fingerprint=first.model_fingerprint,
        seed=first.seed,
        slice_size=first.slice_size,
    )
    attack = {"name": WORST_CASE, "attacks": ", ".join(labels)}
    label = f"Worst of {len(labels)} attacks"
    return summary.model_copy(
        update={"attack": attack, "label": label, "norm": first.norm, "eps": first.eps}
    )


def wilson_interval(num_correct: int, num_images: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a share (Wilson, 1927), within [0, 1]."""
    from scipy.stats import binomtest  # here: every process would wait for it

    interval = binomtest(num_correct, num_images).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def mean_and_spread(results: Sequence[EvaluationResult]) -> tuple[float, float | None]:
    """Return mean and sample standard deviation of the accuracies of several seeds.

    The spread of a single result is None: one run says nothing about it.

    Raises:
        InputError: when there is no result.
    """
    if not results:
        raise InputError("there is no result to take the mean of")
    accuracies = [result.accuracy for result in results]
    spread = statistics.stdev(accuracies) if len(accuracies) > 1 else None
    return statistics.fmean(accuracies), spread


def _merge_notes(slices: Sequence[SliceResult]) -> list[str]:
    """Return the first note of every kind and in how many slices it came up.

    Notes that differ in their numbers alone are one kind.
    """
    kinds: dict[str, list[str]] = {}
    for part in slices:
        in_this_slice = {re.sub(r"\d+", "#", note): note for note in reversed(part.notes)}
        for kind in reversed(in_this_slice):
            kinds.setdefault(kind, []).append(in_this_slice[kind])
    if len(slices) == 1:
        return [notes[0] for notes in kinds.values()]
    return [f"{notes[0]} ({len(notes)} of {len(slices)} slices)" for notes in kinds.values()]


def _whole(found: Sequence[bool | None]) -> bool | None:
    """Return whether something holds of all parts; None where a part does not say."""
    return None if None in found else all(found)


def _flag_notes(
    histogram: np.ndarray, num_images: int, collapsed: bool, non_finite: int, randomised: bool
) -> list[str]:
    notes = []
    if randomised:
        notes.append(
            "the model is randomised: it answers the same images differently when asked twice; "
            "attacks that follow one draw of its gradient overrate it: use AutoAttack's version "
            "rand, which averages over draws (EOT)"
        )
    if non_finite:
        notes.append(
            f"{non_finite} of {num_images} images gave logits that are not finite (NaN or "
            "infinite); they count as not robust"
        )
    if collapsed:
        notes.append(
            f"collapsed: {histogram.max()} of {num_images} predictions are class "
            f"{histogram.argmax()}; a constant classifier is robust to every attack"
        )
    return notes
