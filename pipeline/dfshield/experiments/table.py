"""Tables of the paper as experiments: what each of their keys is run with."""

from collections.abc import Iterator

from pydantic import Field

from dfshield.experiments.experiment import Experiment
from dfshield.experiments.parts import Place, Scale, Settings
from dfshield.paper import PaperTable, paper_table
from dfshield.paper.table import Key, Keys

_PLACES = ("data", "model")
"""The fields of a table that a scale decides about; the others are the experiment's."""


class TableExperiment(Experiment):
    """A table of the paper that can be run.

    Attributes:
        without: why keys are not run, by field and key; other keys that ``cases`` lack are run
            nowhere either.
        teachers: whether its cells are teachers, of which no student is trained.
        defences: by key of the field ``method``: the test-time defence that the teacher of such a
            cell is measured behind, as ``evaluation.defences`` has it, in place of a student.
        left_out: by scale and field: keys that are not run there, so that it keeps its time.
        labels: what a metric of the table is called in results, where it is not ``PGD-10`` or
            ``AutoAttack``.
    """

    without: dict[str, dict[str, str]] = Field(default_factory=dict)
    teachers: bool = False
    defences: dict[str, Settings] = Field(default_factory=dict)
    left_out: dict[str, dict[str, tuple[Key, ...]]] = Field(default_factory=dict)
    labels: dict[str, str] = Field(
        default={"clean": "clean", "pgd10": "PGD-10", "autoattack": "AutoAttack"}
    )

    @property
    def table(self) -> PaperTable:
        """The table as the paper prints it."""
        return paper_table(self.id)

    @property
    def about(self) -> str:
        """What it is about, in a line."""
        return self.table.title

    @property
    def of_data(self) -> tuple[str, ...]:
        """The paper's data sets in the table."""
        return tuple(self.table.data)

    @property
    def of_models(self) -> tuple[str, ...]:
        """The paper's models in the table."""
        return tuple(self.table.models)

    @property
    def needs_real_images(self) -> bool:
        """Whether a number is one of surrogate images, told by the real ones that they cover."""
        return any(metric.unit in ("share", "nats") for metric in self.table.metrics.values())

    def defence_of(self, keys: Keys) -> Settings | None:
        """Return what the teacher of a cell is measured behind; None for cells of students."""
        return self.defences.get(str(keys.get("method")))

    def of_teacher(self, keys: Keys) -> bool:
        """Return whether it is the teacher that a cell tells of."""
        return self.teachers or self.defence_of(keys) is not None

    def paper_place(self, place: Place) -> dict[str, Key]:
        """Return which data set and model of the paper a place is compared with.

        A stand-in is compared with the table's first ones.
        """
        if not place.stands_for:
            return {"data": place.data, "model": place.model}
        data = place.data if place.data in self.of_data else self.of_data[0]
        return {
            "data": data,
            "model": place.model if place.model in self.of_models else self.of_models[0],
        }

    def rows(self, scale: Scale) -> Iterator[dict[str, Key]]:
        """Give the combinations of the table's own fields, in its order, each once."""
        fields = [name for name in self.table.fields if name not in _PLACES]
        left_out = self.left_out.get(scale.name, {})
        rows = (
            tuple((field, cell.keys[field]) for field in fields if field in cell.keys)
            for cell in self.table.cells
        )
        yield from (
            dict(row)
            for row in dict.fromkeys(rows)
            if not any(key in left_out.get(field, ()) for field, key in row)
        )

    def has(self, keys: Keys, place: Place) -> bool:
        """Return whether the table has such a cell; a stand-in stands for all."""
        where = {"data": place.data, "model": place.model}
        return place.stands_for or bool(self.table.select(**keys, **where))

    def missing(self, scale: Scale) -> dict[str, str]:
        """Return the keys of the table that are not run at a scale, each with the reason."""
        run = {(f, str(k)) for cell in self.cells(scale) for f, k in cell.keys.items()}
        printed = {
            (field, str(cell.keys[field]))
            for field in self.cases
            for cell in self.table.cells
            if field in cell.keys
        }
        short = {
            f"{field} {key}": f"left out at scale {scale.name}, which is to take minutes"
            for field, keys in self.left_out.get(scale.name, {}).items()
            for key in keys
        }
        return short | {
            key: self.without.get(field, {}).get(key, f"scale {scale.name} has no images for it")
            for field, key in sorted(printed - run)
        }
