"""What pictures of several sets show: the first images of every class, and features in a plane."""

from typing import Any

import numpy as np

from dfshield.diversity.reference import principal_components
from dfshield.report.sets import ImageRow, PlaneView, PointsView
from dfshield.runs.comparison.inputs import Comparison, drawn_points
from dfshield.runs.inputs.surrogate_sets import SurrogateSet
from dfshield.storage import decode_images

POINTS = 2000
"""Points of real images, and of each set, that a plane shows at most."""


def first_images(of: SurrogateSet, per_class: int) -> tuple[ImageRow, ...]:
    """Return the first images of every class of a set; fewer where there are no more.

    Parts are read until there are enough.

    Raises:
        PartError: if a part that has to be read does not verify.
    """
    manifest = of.manifest
    rows: list[list[dict[str, Any]]] = [[] for _ in manifest.class_names]
    start = 0
    for part in manifest.split("data"):
        arrays = of.data.read(part)
        images, answers = decode_images(arrays.images), arrays.teacher_logits.argmax(axis=1)
        for place, label in enumerate(arrays.labels):
            if len(rows[label]) < per_class:
                rows[label].append(
                    {
                        "index": start + place,
                        "answer": int(answers[place]),
                        "pixels": images[place].copy(),  # a view would keep the whole part
                    }
                )
        if all(len(row) == per_class for row in rows):
            break
        start += len(arrays)
    return tuple(
        ImageRow(label, name, tuple(row))
        for label, (name, row) in enumerate(zip(manifest.class_names, rows, strict=True))
    )


def plane(comparison: Comparison) -> PlaneView:
    """Return the features of real images and sets in the plane of the real ones' variance.

    Raises:
        InputError: if the real images are too few, or all equal.
        PartError: if a part of a set does not verify.
    """
    real = comparison.real_features()
    projection = principal_components(real, seed=comparison.seed)

    def points(features: Any, name: str, method: str, labels: Any, seed: int | None) -> PointsView:
        places = drawn_points(len(features), POINTS, seed=comparison.seed)
        coordinates = projection.project(features[places]).numpy().astype(np.float64)
        chosen = np.asarray(labels)[places]
        return PointsView(name, method, seed, len(features), chosen, coordinates)

    views = []
    for each in comparison.sets:
        features, labels = comparison.features(each)
        views.append(points(features, each.name, each.method, labels, each.manifest.seed))
    name = f"{comparison.real.name} ({comparison.real.split})"
    background = points(real, name, "real images", comparison.real.labels, None)
    return PlaneView(background, tuple(views), projection.shares, comparison.seed)
