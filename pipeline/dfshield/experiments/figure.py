"""Figures of the paper as experiments: what they are drawn of, and how."""

from collections.abc import Iterator
from itertools import product
from typing import Any, Literal

from pydantic import Field

from dfshield.experiments.experiment import Experiment
from dfshield.experiments.parts import Part, Place, Scale
from dfshield.paper.table import Key

PictureKind = Literal["matrix", "curves", "surfaces", "plane", "grid"]


class Picture(Part):
    """How a figure is drawn.

    Attributes:
        kind: ``matrix`` (a heat map of students), ``curves`` (accuracy over a number), ``surfaces``
            (the loss around students' weights), ``plane`` (sets of images in the plane of real
            features), ``grid`` (images of sets).
        options: of that kind; what is a mapping holds a value for each scale.
    """

    kind: PictureKind
    options: dict[str, Any] = Field(default_factory=dict)


class Figure(Experiment):
    """A figure of the paper, whatever it is drawn of.

    Attributes:
        title: what it shows, in a line. In our words: our copy of the paper has no captions.
        shows: what was done to get it, and what is drawn.
        lost: what our copy of the paper, text without formulas, does not have, and what is taken
            instead.
    """

    title: str
    shows: str
    lost: tuple[str, ...] = ()

    @property
    def about(self) -> str:
        """What it shows, in a line."""
        return self.title

    def missing(self, scale: Scale) -> dict[str, str]:
        """Return nothing: a figure is drawn of what a scale has."""
        del scale
        return {}


class FigureExperiment(Figure):
    """A figure that is drawn of the students or the images of a sweep.

    Attributes:
        data: the data sets, by name.
        models: the models, by name.
        stand_ins: whether a scale without these data sets and models has others in their place.
        fields: what names a cell beside data set and model, in words.
        values: the numbers of the fields of ``paths``, for each scale.
        picture: how it is drawn.
    """

    data: tuple[str, ...]
    models: tuple[str, ...]
    stand_ins: bool = True
    fields: dict[str, str]
    values: dict[str, dict[str, tuple[int, ...]]] = Field(default_factory=dict)
    picture: Picture

    @property
    def of_data(self) -> tuple[str, ...]:
        """The data sets that it is run on, by name."""
        return self.data

    @property
    def of_models(self) -> tuple[str, ...]:
        """The models that it is run with, by name."""
        return self.models

    def places(self, scale: Scale) -> tuple[Place, ...]:
        """Return where it is run at a scale."""
        found = super().places(scale)
        return found if self.stand_ins else tuple(p for p in found if p.data in self.data)

    @property
    def needs_real_images(self) -> bool:
        """Whether the picture is of the plane of real features."""
        return self.picture.kind == "plane"

    @property
    def of_images(self) -> bool:
        """Whether it shows sets of images alone, for which no student is trained."""
        return self.picture.kind in ("plane", "grid")

    def options(self, scale: Scale) -> dict[str, Any]:
        """Return the options of the picture at a scale."""
        given = self.picture.options.items()
        return {key: one[scale.name] if isinstance(one, dict) else one for key, one in given}

    def rows(self, scale: Scale) -> Iterator[dict[str, Key]]:
        """Give the combinations of its fields, in order."""
        keys: list[tuple[Key, ...]] = [
            self.values[field][scale.name] if field in self.paths else tuple(self.cases[field])
            for field in self.fields
        ]
        yield from (dict(zip(self.fields, row, strict=True)) for row in product(*keys))
