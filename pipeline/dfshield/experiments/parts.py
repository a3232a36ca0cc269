"""What experiments are put together from: data sets with models, scales, and cells."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from dfshield.paper.table import Keys

Settings = dict[str, Any]
"""By path of the configuration, or nested as there.

``$own`` stands for what the scale itself has at a path, ``$NAME`` for what the scale or the place
calls so: real images of the place (``train``, ``public``), those of a data set (``digits-train``),
a method with its budget (``dast``, ``qimera``).
"""
OWN = "$own"


class Part(BaseModel):
    """A part of an experiment: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Place(Part):
    """A data set with a model, at one scale.

    Attributes:
        data: its name; one of the paper's where the scale has that.
        model: likewise.
        stands_for: whether it only stands in for the data sets and models of the paper.
        settings: over those of the scale.
        named: what experiments call ``$NAME``: real images for references on them, ``train`` those
            of the data set, ``public`` those of another one; each as ``training.images.data``.
    """

    data: str
    model: str
    stands_for: bool = False
    settings: Settings = Field(default_factory=dict)
    named: dict[str, Settings] = Field(default_factory=dict)


class Scale(Part):
    """How large experiments are.

    Attributes:
        name: ``smoke``, ``desk`` or ``paper``.
        told: what is smaller than in the paper, in one or more sentences.
        base: the configuration that all cells begin with.
        places: data sets and models.
        named: what experiments call ``$NAME`` wherever they are run: baselines, each as the section
            ``method``, and synthesizers, each as ``synthesis.method``.
    """

    name: str
    told: str
    base: Settings
    places: tuple[Place, ...]
    named: dict[str, Settings] = Field(default_factory=dict)

    def named_at(self, place: Place) -> dict[str, Settings]:
        """Return what is called ``$NAME`` at a place; images of data set D are ``$D-train``."""
        images = {
            f"{one.data}-train": one.named["train"] for one in self.places if "train" in one.named
        }
        return {**images, **self.named, **place.named}


@dataclass(frozen=True)
class Cell:
    """One student of a table, or one student or set of images of a figure.

    Attributes:
        keys: what it is of, by the fields of the paper's table.
        place: where it is run.
        settings: over those of the scale and the place; by path or nested.
        named: what its settings call ``$NAME``.
    """

    keys: Keys
    place: Place
    settings: Mapping[str, Any]
    named: Mapping[str, Settings]


def filled(value: Any, named: Mapping[str, Settings]) -> Any:
    """Return a setting with what is called ``$NAME`` in its place."""
    if isinstance(value, Mapping):
        return {key: filled(each, named) for key, each in value.items()}
    if isinstance(value, str) and value.startswith("$") and value[1:] in named:
        return dict(named[value[1:]])
    return value


def wanted(value: Any) -> set[str]:
    """Return which names settings call: ``train``, ``dast``."""
    if isinstance(value, Mapping):
        return set().union(*map(wanted, value.values()))
    called = isinstance(value, str) and value.startswith("$") and value != OWN
    return {value[1:]} if called else set()
