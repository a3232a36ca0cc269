"""Surrogate data sets as people name them: a run, which may have several, or the set's folder."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from dfshield.config import DEFAULT_SYNTHESIZER
from dfshield.errors import InputError
from dfshield.runs.inputs.synthesizer import making_of
from dfshield.runs.layout import surrogate_folders
from dfshield.runs.names import SEED, SYNTHETIC
from dfshield.storage import Folder, Manifest, SurrogateDataset

FIXED = "fixed"
"""The rule of coefficients that draws none."""


@dataclass(frozen=True)
class SurrogateSet:
    """A finished surrogate data set, by the name that tables and pictures give it.

    Attributes:
        name: of its run, or of its folder.
        data: itself.
        method: how its images were made, in words.
        diversified: whether by diversified sample synthesis.
    """

    name: str
    data: SurrogateDataset
    method: str
    diversified: bool

    @property
    def manifest(self) -> Manifest:
        """What it holds."""
        return self.data.manifest


def surrogate_sets(locations: Sequence[str]) -> list[SurrogateSet]:
    """Return the sets that locations name, all of one image shape, those of DSS last.

    Raises:
        InputError: for a location without a set, a set that is not finished, or another shape.
    """
    folders = [folder for location in locations for folder in surrogate_folders(location)]
    names = [_name(folder) for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{twice}: is named twice")
    sets = [_opened(*pair) for pair in zip(names, folders, strict=True)]
    first = sets[0]
    for each in sets[1:]:
        if each.manifest.image_shape != first.manifest.image_shape:
            raise InputError(
                f"{each.name}: has images of {_sides(each)}, but those of {first.name} are "
                f"{_sides(first)} (channels x height x width): name sets of one shape"
            )
    return sorted(sets, key=lambda each: each.diversified)


def run_of(folder: Folder) -> Folder | None:
    """Return the run that a surrogate data set lies in; None for a set of its own."""
    above, name = folder.parent()
    if name != SYNTHETIC:
        return None
    run, name = above.parent()
    return run if name.startswith(SEED) else above


def _name(folder: Folder) -> str:
    folder = Folder.at(os.path.normpath(folder.local)) if folder.local else folder
    above, name = folder.parent()
    run = run_of(folder)
    if run is None:
        return name
    title = run.parent()[1]
    return title if run == above else f"{title}, {above.parent()[1].replace('-', ' ')}"


def _opened(name: str, folder: Folder) -> SurrogateSet:
    data = SurrogateDataset.open(folder)
    missing, planned = len(data.missing("data")), len(data.manifest.split("data"))
    if missing or not planned:
        raise InputError(
            f"{name}: {missing} of its {planned} parts are missing in {folder}: finish it first"
        )
    method, diversified = _method(data.manifest)
    return SurrogateSet(name, data, method, diversified)


def _method(manifest: Manifest) -> tuple[str, bool]:
    """Return how images were made, in words, and whether by diversified sample synthesis."""
    try:
        making = making_of(manifest.identity)
    except InputError:
        return "not recorded", False
    drawn = (making.options.get("coefficients") or {}).get("rule") != FIXED
    return making.words, making.name == DEFAULT_SYNTHESIZER and drawn


def _sides(of: SurrogateSet) -> str:
    return "x".join(map(str, of.manifest.image_shape))
