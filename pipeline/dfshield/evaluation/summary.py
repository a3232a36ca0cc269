"""From the slices of an evaluation to its result, and from several results to a worst case."""

import re
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
import torch

from dfshield import __version__
from dfshield.attacks import Attack
from dfshield.classifiers import PROBABILITIES
from dfshield.errors import InputError
from dfshield.evaluation.intervals import wilson_interval
from dfshield.evaluation.records import ImageRecords
from dfshield.evaluation.slices import NON_FINITE, SliceResult
from dfshield.results import WORST_CASE, WORST_OF, DataInfo, EvaluationResult, has_collapsed


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
    num_classes = _classes_of(slices)
    labels = np.concatenate([part.labels for part in slices])
    clean = np.concatenate([part.clean_predictions for part in slices])
    predicted = np.concatenate([part.adversarial_predictions for part in slices])

    correct = (clean == labels) & (predicted == labels)
    num_images, num_correct = len(labels), int(correct.sum())
    label_counts = np.bincount(labels, minlength=num_classes)
    histogram = np.bincount(predicted[predicted != NON_FINITE], minlength=num_classes)
    collapsed = has_collapsed(histogram.tolist(), num_images)
    non_finite = int((predicted == NON_FINITE).sum())
    randomised = any(part.randomised for part in slices)
    probabilities = _whole([part.probabilities for part in slices])
    flags = _flag_notes(histogram, num_images, collapsed, non_finite, randomised)
    flags += [PROBABILITIES] if probabilities else []
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
        balanced_accuracy=_balanced(correct, labels),
        prediction_histogram=tuple(histogram.tolist()),
        collapsed=collapsed,
        below_floor=num_correct < int(label_counts.max()),
        standard_suite=attack.standard_suite(num_classes) if attack else None,
        non_finite=non_finite,
        randomised=randomised,
        probabilities=probabilities,
        queries=sum(sum(part.queries) for part in slices) / num_images,
        max_perturbation=max(part.max_perturbation for part in slices),
        notes=(*_merge_notes(slices), *flags, *_engine_notes(slices)),
        seed=seed,
        slice_size=slice_size,
        seconds=sum(part.seconds for part in slices),
        versions=measured_with(),
    )


def measured_with() -> dict[str, str]:
    """Return the versions of the packages that decide what a measurement gives."""
    return {
        "dfshield": __version__,
        "torch": str(torch.__version__),
        "pyautoattack": version("pyautoattack"),
    }


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
    label = f"{WORST_OF} {len(labels)} attacks"
    of_all = {
        "norm": first.norm,
        "eps": first.eps,
        "defence": first.defence,
        **_adaptive(results),
        "data_free": first.data_free,
    }
    return summary.model_copy(update={"attack": attack, "label": label, **of_all})


def _adaptive(results: Sequence[EvaluationResult]) -> dict[str, bool | str | None]:
    """Return whether any of several attacks was adaptive, and how those were, or why none was."""
    known = [result for result in results if result.adaptive is not None]
    adaptive = any(result.adaptive for result in known)
    how = dict.fromkeys(r.adaptive_how for r in known if r.adaptive is adaptive and r.adaptive_how)
    return {"adaptive": adaptive, "adaptive_how": "; ".join(how)} if known else {}


def _classes_of(slices: Sequence[SliceResult]) -> int:
    counts = {part.num_classes for part in slices}
    if len(counts) != 1:
        raise InputError(f"expected slices of one model, but got class counts {sorted(counts)}")
    return counts.pop()


def _balanced(correct: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean over the classes that there are of the accuracy on each."""
    return float(np.mean([correct[labels == label].mean() for label in np.unique(labels)]))


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


def _engine_notes(slices: Sequence[SliceResult]) -> list[str]:
    """Return what is to be said of slices that were computed in several ways, if they were."""
    engines = [part.engine for part in slices if part.engine is not None]
    keys = sorted({key for engine in engines for key in engine})
    mixed = []
    for key in keys:
        found = dict.fromkeys(str(engine.get(key)) for engine in engines)
        mixed += [f"{key}: {', '.join(found)}"] if len(found) > 1 else []
    if not mixed:
        return []
    return [
        f"measured under several engines ({'; '.join(mixed)}), whose numbers differ by rounding: "
        "another machine need not find the same to the image"
    ]


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
