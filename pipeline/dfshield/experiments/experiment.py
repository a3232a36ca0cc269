"""What an experiment is: the cells of a table, each with the settings that it is run with."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from dfshield.paper import PaperTable, paper_table
from dfshield.paper.table import Key, Keys

Settings = dict[str, Any]
"""By path of the configuration, or nested as there.

``$own`` stands for what the scale itself has at a path, ``$NAME`` for what the scale or the place
calls so: real images of the place (``train``, ``public``), a baseline with its budget (``dast``).
"""
OWN = "$own"

_PLACES = ("data", "model")
"""The fields of a table that a scale decides about; the others are the experiment's."""


class _Part(BaseModel):
    """A part of an experiment: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Place(_Part):
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
    settings: Settings = {}
    named: dict[str, Settings] = {}


class Scale(_Part):
    """How large experiments are.

    Attributes:
        name: ``smoke``, ``desk`` or ``paper``.
        told: what is smaller than in the paper, in one or more sentences.
        base: the configuration that all cells begin with.
        places: data sets and models.
        named: what experiments call ``$NAME`` wherever they are run: the baselines, each as the
            section ``method``.
    """

    name: str
    told: str
    base: Settings
    places: tuple[Place, ...]
    named: dict[str, Settings] = {}


@dataclass(frozen=True)
class Cell:
    """One student of a table.

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


class Experiment(_Part):
    """A table of the paper that can be run.

    Attributes:
        id: of the table.
        base: settings of all its cells that decide what they are measured by, such as the norm;
            students of other ones are not shared.
        settings: of all its cells, over the scale's.
        cases: by field of the table, then by its key: the settings of such cells. Keys of the table
            that are missing here are not run.
        paths: fields whose keys are numbers: the path of the configuration that takes them.
        without: why keys are not run, by field and key.
        attacks: by metric of the table, attacks that its students meet beside those of the scale.
        labels: what a metric of the table is called in results, where it is not ``PGD-10`` or
            ``AutoAttack``.
    """

    id: str
    base: Settings = {}
    settings: Settings = {}
    cases: dict[str, dict[str, Settings]] = {}
    paths: dict[str, str] = {}
    without: dict[str, dict[str, str]] = {}
    attacks: dict[str, Settings] = {}
    labels: dict[str, str] = {"clean": "clean", "pgd10": "PGD-10", "autoattack": "AutoAttack"}

    @property
    def table(self) -> PaperTable:
        """The table as the paper prints it."""
        return paper_table(self.id)

    def cells(self, scale: Scale) -> Iterator[Cell]:
        """Give every student of the table at a scale, row by row.

        Of the paper's data sets and models those that the scale has; where it has none of them, its
        stand-ins.
        """
        found = {}
        for keys in self._rows():
            settings = self._settings_of(keys)
            for place in self.places(scale) if settings is not None else ():
                named = {**scale.named, **place.named}
                if self._in_table(keys, place) and wanted(settings) <= named.keys():
                    cell = Cell({**keys, **self._of(place)}, place, settings or {}, named)
                    found[tuple(cell.keys.items())] = cell
        yield from found.values()

    def places(self, scale: Scale) -> tuple[Place, ...]:
        """Return where the table is run at a scale."""
        real = [p for p in scale.places if p.data in self.table.data and p.model in self.models]
        return tuple(real) or tuple(p for p in scale.places if p.stands_for)

    @property
    def models(self) -> tuple[str, ...]:
        """The paper's models in the table."""
        return tuple(self.table.models)

    def paper_place(self, place: Place) -> dict[str, Key]:
        """Return which data set and model of the paper a place is compared with.

        A stand-in is compared with the table's first ones.
        """
        if not place.stands_for:
            return {"data": place.data, "model": place.model}
        data = place.data if place.data in self.table.data else next(iter(self.table.data))
        return {
            "data": data,
            "model": place.model if place.model in self.models else self.models[0],
        }

    def _of(self, place: Place) -> dict[str, Key]:
        return {"data": place.data, "model": place.model}

    def _rows(self) -> Iterator[dict[str, Key]]:
        """Give the combinations of the table's own fields, in its order, each once."""
        fields = [name for name in self.table.fields if name not in _PLACES]
        rows = (
            tuple((field, cell.keys[field]) for field in fields if field in cell.keys)
            for cell in self.table.cells
        )
        yield from (dict(row) for row in dict.fromkeys(rows))

    def _in_table(self, keys: Keys, place: Place) -> bool:
        return place.stands_for or bool(self.table.select(**keys, **self._of(place)))

    def _settings_of(self, keys: Keys) -> Settings | None:
        """Return what the cells of these keys are run with; None for those that are not run."""
        settings = dict(self.settings)
        for field, key in keys.items():
            if field in self.paths:
                settings[self.paths[field]] = key
            elif field in self.cases:
                case = self.cases[field].get(str(key))
                if case is None:
                    return None
                settings |= case
        return settings

    def missing(self, scale: Scale) -> dict[str, str]:
        """Return the keys of the table that are not run at a scale, each with the reason."""
        run = {(f, str(k)) for cell in self.cells(scale) for f, k in cell.keys.items()}
        printed = {
            (field, str(cell.keys[field]))
            for field in self.cases
            for cell in self.table.cells
            if field in cell.keys
        }
        return {
            key: self.without.get(field, {}).get(key, f"scale {scale.name} has no images for it")
            for field, key in sorted(printed - run)
        }


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
