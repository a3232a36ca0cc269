"""What tables and figures have in common: cells, each with the settings that it is run with."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

from pydantic import Field

from dfshield.errors import InputError
from dfshield.experiments.parts import Cell, Part, Place, Scale, Settings, wanted
from dfshield.paper.table import Key, Keys


class Experiment(Part, ABC):
    """A table or a figure of the paper that can be run.

    Attributes:
        id: ``table-4``, ``fig-1``.
        base: settings of all its cells that decide what they are measured by, such as the norm;
            students of other ones are not shared.
        settings: of all its cells, over the scale's.
        cases: by field, then by its key: the settings of such cells.
        paths: fields whose keys are numbers: the path of the configuration that takes them.
        attacks: by metric, attacks that its students meet beside those of the scale.
    """

    id: str
    base: Settings = Field(default_factory=dict)
    settings: Settings = Field(default_factory=dict)
    cases: dict[str, dict[str, Settings]] = Field(default_factory=dict)
    paths: dict[str, str] = Field(default_factory=dict)
    attacks: dict[str, Settings] = Field(default_factory=dict)

    @property
    def heading(self) -> str:
        """What people call it: ``Table 4``, ``Figure 1``."""
        kind, number = self.id.split("-")
        return f"{'Table' if kind == 'table' else 'Figure'} {number}"

    @property
    @abstractmethod
    def about(self) -> str:
        """What it is about, in a line."""

    @property
    @abstractmethod
    def of_data(self) -> tuple[str, ...]:
        """The data sets that it is run on, by name."""

    @property
    @abstractmethod
    def of_models(self) -> tuple[str, ...]:
        """The models that it is run with, by name."""

    @property
    @abstractmethod
    def needs_real_images(self) -> bool:
        """Whether it looks at the real training images of its places, to measure with."""

    @abstractmethod
    def rows(self, scale: Scale) -> Iterator[dict[str, Key]]:
        """Give the combinations of its own fields, in its order, each once."""

    @abstractmethod
    def missing(self, scale: Scale) -> dict[str, str]:
        """Return the keys that are not run at a scale, each with the reason."""

    def has(self, keys: Keys, place: Place) -> bool:
        """Return whether there is such a cell at a place."""
        del keys, place
        return True

    def cells(self, scale: Scale) -> Iterator[Cell]:
        """Give every cell at a scale, row by row.

        Of the data sets and models those that the scale has; where it has none of them, its
        stand-ins.
        """
        found = {}
        for keys in self.rows(scale):
            settings = self._settings_of(keys)
            for place in self.places(scale) if settings is not None else ():
                named = scale.named_at(place)
                if self.has(keys, place) and wanted(settings) <= named.keys():
                    whole = {**keys, "data": place.data, "model": place.model}
                    found[tuple(whole.items())] = Cell(whole, place, settings or {}, named)
        yield from found.values()

    def places(self, scale: Scale) -> tuple[Place, ...]:
        """Return where it is run at a scale."""
        real = [p for p in scale.places if p.data in self.of_data and p.model in self.of_models]
        return tuple(real) or tuple(p for p in scale.places if p.stands_for)

    def size(self, scale: Scale) -> int:
        """Return how many students, or sets, it has at a scale with one seed."""
        return len(tuple(self.cells(scale)))

    def require_cells(self, scale: Scale) -> tuple[Cell, ...]:
        """Return the cells at a scale.

        Raises:
            InputError: if there is none.
        """
        cells = tuple(self.cells(scale))
        if not cells:
            raise InputError(f"--scale: {scale.name} has nothing that {self.id} is run on")
        return cells

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
