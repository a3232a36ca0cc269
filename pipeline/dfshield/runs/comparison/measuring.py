"""Measuring several sets against the same real images."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from dfshield.diversity.reference import REFERENCE, Measure, ReferenceMetric
from dfshield.errors import InputError, counted
from dfshield.runs.comparison.inputs import Comparison
from dfshield.runs.inputs.surrogate_sets import SurrogateSet

FORMAT_VERSION = 1


def measured(comparison: Comparison, metrics: Sequence[ReferenceMetric]) -> dict[str, Any]:
    """Return what the metrics say of every set, ready for JSON.

    ``data_free`` is false: real images are looked at. Every set has its ``values`` by the names
    that ``scores`` describes; beside them stand all settings that they depend on.

    Raises:
        InputError: if the real images, or those of a set, are too few for a metric.
        PartError: if a part of a set does not verify.
    """
    observer, real = comparison.observer, comparison.real
    _require_enough(comparison, metrics)
    features = comparison.real_features()
    measures = []
    for metric in metrics:
        observer.begin(_title(metric, real.name), total=len(features), done=0, unit="images")
        measures.append(_fitted(metric, features, comparison))
        observer.end()
    return {
        "format_version": FORMAT_VERSION,
        "data_free": False,
        "real": {
            "name": real.name,
            "split": real.split,
            "num_images": len(real),
            "fingerprint": real.fingerprint(),
        },
        "features": {**comparison.settings, "dimensions": features.shape[1]},
        "metrics": [REFERENCE.describe(metric) for metric in metrics],
        "seed": comparison.seed,
        "scores": {
            name: score._asdict() for metric in metrics for name, score in metric.scores.items()
        },
        "sets": [_of_set(comparison, each, metrics, measures) for each in comparison.sets],
        "remarks": _remarks(comparison),
    }


def _require_enough(comparison: Comparison, metrics: Sequence[ReferenceMetric]) -> None:
    """Refuse too few images before any feature is computed."""
    for metric in metrics:
        fewest_real, fewest = metric.fewest
        for found, needed, name in (
            (len(comparison.real), fewest_real, f"--real: {comparison.real.name}"),
            *((_size(comparison, each), fewest, each.name) for each in comparison.sets),
        ):
            if found < needed:
                options = {k: v for k, v in REFERENCE.describe(metric).items() if k != "name"}
                told = ", ".join(f"{key} {value}" for key, value in options.items())
                raise InputError(
                    f"{name}: {counted(found, 'image')}, but {metric.name} ({told}) needs at "
                    f"least {needed}"
                )


def _size(comparison: Comparison, of: SurrogateSet) -> int:
    planned = sum(part.num_images for part in of.manifest.split("data"))
    return min(planned, comparison.num_images or planned)


def _remarks(comparison: Comparison) -> list[str]:
    remarks = []
    sizes = {_size(comparison, each) for each in comparison.sets}
    if len(sizes) > 1:
        remarks.append(
            "the sets differ in size, on which all of these figures depend: --num-images "
            f"{min(sizes)} takes as many of each"
        )
    if comparison.teacher is not None:
        fingerprint = comparison.teacher.fingerprint()
        others = [
            each.name
            for each in comparison.sets
            if each.manifest.teacher_fingerprint != fingerprint
        ]
        if others:
            remarks.append(f"made from another classifier than the features: {', '.join(others)}")
    return remarks


def _title(metric: ReferenceMetric, name: str) -> str:
    titles = "/".join(score.title for score in metric.scores.values())
    return f"{titles} of {name}"


def _fitted(
    metric: ReferenceMetric, features: Float[Tensor, "n d"], comparison: Comparison
) -> Measure:
    advance = comparison.observer.advance
    try:
        return metric.fit(features, seed=comparison.seed, advance=advance)
    except InputError as error:
        raise InputError(f"--real: {error}") from None


def _of_set(
    comparison: Comparison,
    of: SurrogateSet,
    metrics: Sequence[ReferenceMetric],
    measures: Sequence[Measure],
) -> dict[str, Any]:
    features, _ = comparison.features(of)
    values: dict[str, float] = {}
    for metric, measure in zip(metrics, measures, strict=True):
        title = _title(metric, of.name)
        total = len(comparison.real) + len(features)
        comparison.observer.begin(title, total=total, done=0, unit="images")
        values |= measure(features)
        comparison.observer.end()
    return {
        "name": of.name,
        "location": str(of.data.folder),
        "method": of.method,
        "seed": of.manifest.seed,
        "num_images": len(features),
        "teacher_fingerprint": of.manifest.teacher_fingerprint,
        "values": values,
    }
