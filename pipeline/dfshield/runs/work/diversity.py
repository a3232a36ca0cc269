"""How diverse the surrogate images of a run are: measured once they are made, shown by the page."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dfshield.classifiers import Classifier
from dfshield.config import VariantConfig
from dfshield.diversity import DIVERSITY, DiversityMetric
from dfshield.diversity.features import FEATURE_SPACES
from dfshield.runs.records import read_record
from dfshield.runs.watching.events import Observer
from dfshield.runs.work.features import features_of
from dfshield.storage import Folder, Manifest, SurrogateDataset, SurrogateReader, decode_images


def measured_diversity(
    wanted: Sequence[VariantConfig],
    data: SurrogateReader,
    *,
    load_teacher: Callable[[], Classifier],
    observer: Observer,
) -> list[dict[str, Any]]:
    """Return what each metric says of the first images of a data set, in the order of these.

    Without a metric that looks at pixels, only labels and logits are read.

    Args:
        wanted: the metrics, as ``synthesis.diversity`` names them.
        data: reads what the data set holds.
        load_teacher: returns the teacher of the images; called where a metric needs its features.
        observer: is shown the progress of these.

    Returns:
        For each ``metric`` (name and options), ``num_images`` that were measured, and ``values``.

    Raises:
        PartError: if a part that has to be read is missing or broken.
    """
    metrics = [DIVERSITY.make(each.name, **each.options) for each in wanted]
    if not metrics:
        return []
    counts = [_count(metric, data.manifest) for metric in metrics]
    pixels = any(metric.needs_images or metric.needs_features for metric in metrics)
    sample = _first_images(data, max(counts), pixels=pixels)
    if any(metric.needs_features for metric in metrics):
        sample["features"] = features_of(
            sample["images"],
            FEATURE_SPACES.make("teacher", model=load_teacher()),
            device="cpu",
            observer=observer,
            title="Features of the surrogate images",
        )
    return [
        {"metric": DIVERSITY.describe(metric), "num_images": count, "values": metric(**sample)}
        for metric, count in zip(metrics, counts, strict=True)
    ]


def shown_diversity(
    wanted: Sequence[VariantConfig],
    data: SurrogateDataset,
    *,
    load_teacher: Callable[[], Classifier],
    observer: Observer,
) -> list[dict[str, Any]]:
    """Return the rows of the page: those of the record, else measured here; writes nothing.

    What is neither recorded nor to be had from files, as the parts of an object-store sink, is left
    out. The teacher and the observer are those of `measured_diversity`.

    Raises:
        PartError: if a part that has to be read is broken.
    """
    known = _recorded(data.folder)
    missing = bool(data.missing("data"))
    rows: list[dict[str, Any]] = []
    for each in wanted:
        metric = DIVERSITY.make(each.name, **each.options)
        found = [entry for entry in known if _is_of(entry, metric, data.manifest)]
        if not found and not missing:
            found = measured_diversity([each], data, load_teacher=load_teacher, observer=observer)
        rows += [row for entry in found[:1] for row in _rows(entry, metric)]
    return rows


def _recorded(folder: Folder) -> list[Any]:
    """Return what the stage's summary holds of it, checked or not."""
    known = ((read_record(folder) or {}).get("summary") or {}).get("diversity")
    return known if isinstance(known, list) else []


def _count(metric: DiversityMetric, manifest: Manifest) -> int:
    return min(metric.num_images, sum(part.num_images for part in manifest.split("data")))


def _first_images(data: SurrogateReader, count: int, *, pixels: bool) -> dict[str, Tensor]:
    """Return labels, logits and, if asked for, images of the first ``count`` images."""
    columns: dict[str, list[np.ndarray]] = {"labels": [], "logits": [], "images": []}
    for part in data.manifest.covering("data", count):
        if pixels:
            arrays = data.read(part)
            labels, logits = arrays.labels, arrays.teacher_logits
            columns["images"].append(decode_images(arrays.images))
        else:
            labels, logits = data.columns(part, "label", "teacher_logits")
        columns["labels"].append(labels)
        columns["logits"].append(logits)
    return {
        name: torch.from_numpy(np.concatenate(found)[:count])
        for name, found in columns.items()
        if found
    }


def _is_of(entry: object, metric: DiversityMetric, manifest: Manifest) -> bool:
    """Return whether an entry of a record is what this metric would say now."""
    return (
        isinstance(entry, dict)
        and entry.get("metric") == DIVERSITY.describe(metric)
        and entry.get("num_images") == _count(metric, manifest)
        and isinstance(entry.get("values"), dict)
        and entry["values"].keys() == metric.quantities.keys()
        and all(isinstance(value, float) for value in entry["values"].values())
    )


def _rows(entry: dict[str, Any], metric: DiversityMetric) -> list[dict[str, Any]]:
    options = {k: v for k, v in entry["metric"].items() if k not in ("name", "num_images")}
    settings = ", ".join(f"{key} {value}" for key, value in options.items())
    return [
        {
            **quantity._asdict(),
            "value": entry["values"][name],
            "num_images": entry["num_images"],
            "settings": settings,
        }
        for name, quantity in metric.quantities.items()
    ]
