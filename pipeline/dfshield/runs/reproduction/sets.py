"""The sets of images that cells are trained on or show, beside the real images of their place."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from dfshield.config import VariantConfig
from dfshield.diversity.reference import REFERENCE
from dfshield.experiments import Cell
from dfshield.report.sets import settings_line
from dfshield.runs.comparison.inputs import Comparison, comparison
from dfshield.runs.comparison.measuring import measured
from dfshield.runs.inputs.real_data import read_images
from dfshield.runs.inputs.surrogate_sets import SurrogateSet, surrogate_sets
from dfshield.runs.reproduction.cells import Reproduction
from dfshield.runs.reproduction.files import REAL, real_training_images
from dfshield.runs.sweep.plan import source_key
from dfshield.runs.sweep.sweep import Sweep
from dfshield.runs.sweep.trial import Source

MOST = 10_000
"""Real images, and images of a set, that metrics take: as many as is usual for them."""


def sets_by_place(
    found: Reproduction, sweep: Sweep
) -> Iterator[tuple[Cell, Source, list[SurrogateSet]]]:
    """Give a cell of every place with its source, and the sets there, named by their `source_key`.

    Args:
        found: what the cells are of.
        sweep: whose sources are made.

    Raises:
        InputError: for a set that is not finished.
    """
    groups: dict[tuple[str, str], list[tuple[Cell, str]]] = {}
    for cell, name in zip(found.cells, found.names, strict=True):
        key = source_key(found.trials[name][0].config)
        if sweep.sources[key].data is not None:
            groups.setdefault((cell.place.data, cell.place.model), []).append((cell, key))
    for members in groups.values():
        keys = {sweep.sources[key].data: key for _, key in members}
        sets = surrogate_sets([data for data in keys if data is not None])
        named = [replace(one, name=keys[one.data.folder.uri]) for one in sets]
        cell, key = members[0]
        yield cell, sweep.sources[key], named


def compared_with_real(
    found: Reproduction,
    sweep: Sweep,
    place: tuple[Cell, Source],
    sets: Sequence[SurrogateSet],
    *,
    num_images: int,
) -> Comparison:
    """Return sets beside the real training images of their place, on the teacher's features.

    Args:
        found: what the cells are of.
        sweep: that has made the sets.
        place: a cell of it, and its source.
        sets: there.
        num_images: of each, at most.

    Raises:
        InputError: if the scale names no training images there.
    """
    cell, source = place
    data, split = real_training_images(cell)
    return comparison(
        sets,
        read_images(data, split=split, key=f"${REAL}"),
        VariantConfig(name="teacher"),
        teacher=source.teacher,
        trust_python=found.config.teacher.trust_python,
        num_images=num_images,
        seed=found.config.seed,
        observer=sweep.observer,
    )


def scores_of_sets(
    found: Reproduction, sweep: Sweep, wanted: Collection[str]
) -> tuple[Mapping[str, Mapping[str, float]], str]:
    """Return how well sets cover real training images, by `source_key`, then by score.

    Beside it, what the scores depend on, in a sentence; empty without any.

    Args:
        found: what the cells are of.
        sweep: that has made the sets.
        wanted: names of scores, such as ``recall``; others are passed over.

    Raises:
        InputError: if the images are too few for a metric.
    """
    metrics = [
        REFERENCE.make(name)
        for name, metric in REFERENCE.items()
        if not metric.scores.keys().isdisjoint(wanted)
    ]
    scores: dict[str, Mapping[str, float]] = {}
    settings: dict[str, None] = {}
    for cell, source, sets in sets_by_place(found, sweep) if metrics else ():
        compared = compared_with_real(found, sweep, (cell, source), sets, num_images=MOST)
        told = measured(compared, metrics)
        scores |= {one["name"]: one["values"] for one in told["sets"]}
        settings[settings_line(told)] = None
    return scores, f"Surrogate images: {'; '.join(settings)}." if settings else ""
