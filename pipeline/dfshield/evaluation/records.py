"""One row per image: what an attack did to it, and what all attacks together did."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dfshield.brief import Brief
from dfshield.errors import InputError
from dfshield.evaluation.slices import SliceResult

CLEAN = "clean"
"""What has "broken" an image that is answered wrong as it is."""


@dataclass(frozen=True, eq=False, repr=False)
class ImageRecords(Brief):
    """Every image of an evaluation under one attack, or under several; arrays of equal length.

    Attributes:
        index: place of the image in the split that was evaluated, sampled or not.
        label: true class.
        clean_prediction: class, or -1 where the logits are not finite.
        adversarial_prediction: the same under attack.
        clean_margin: true logit minus the largest other one; NaN where not finite.
        adversarial_margin: the same under attack.
        distance: size of the perturbation in the attack's norm; NaN where not finite.
        queries: images the model was asked about; see `SliceResult.queries`.
        broken_by: label of the attack that broke the image, the first of several; ``clean`` for one
            that is wrong as it is; empty for one that stands.
    """

    index: npt.NDArray[np.int64]
    label: npt.NDArray[np.int64]
    clean_prediction: npt.NDArray[np.int64]
    adversarial_prediction: npt.NDArray[np.int64]
    clean_margin: npt.NDArray[np.float64]
    adversarial_margin: npt.NDArray[np.float64]
    distance: npt.NDArray[np.float64]
    queries: npt.NDArray[np.float64]
    broken_by: np.ndarray

    def __len__(self) -> int:
        return len(self.label)

    @property
    def robust(self) -> npt.NDArray[np.bool_]:
        """Which images are right both clean and under attack."""
        stands: npt.NDArray[np.bool_] = self.broken_by == ""
        return stands

    def to_table(self) -> pa.Table:
        """Return one column per attribute."""
        return pa.table({column.name: getattr(self, column.name) for column in fields(self)})

    @classmethod
    def from_table(cls, table: pa.Table, *, source: str = "table") -> "ImageRecords":
        """Return what `to_table` wrote.

        Args:
            table: with a column per attribute.
            source: how errors call it, such as the path of the file.

        Raises:
            InputError: if a column is missing.
        """
        missing = {column.name for column in fields(cls)} - set(table.column_names)
        if missing:
            raise InputError(f"{source}: lacks the columns {', '.join(sorted(missing))}")
        columns = {c.name: np.asarray(table[c.name].to_pylist()) for c in fields(cls)}
        return cls(**{**columns, "broken_by": columns["broken_by"].astype(np.str_)})


def image_records(
    slices: Sequence[SliceResult], *, attack: str, index: npt.NDArray[np.int64] | None = None
) -> ImageRecords:
    """Return the rows of an evaluation from its slices, in order.

    Args:
        slices: all of them.
        attack: its label.
        index: places of the images in the split; None numbers them through.
    """

    def joined(name: str, kind: type) -> np.ndarray:
        return np.array([value for part in slices for value in getattr(part, name)], dtype=kind)

    label = joined("labels", np.int64)
    clean = joined("clean_predictions", np.int64)
    adversarial = joined("adversarial_predictions", np.int64)
    broken_by = np.where(adversarial != label, attack, "")
    return ImageRecords(
        index=np.arange(len(label)) if index is None else index,
        label=label,
        clean_prediction=clean,
        adversarial_prediction=adversarial,
        clean_margin=joined("clean_margins", np.float64),
        adversarial_margin=joined("adversarial_margins", np.float64),
        distance=joined("distances", np.float64),
        queries=joined("queries", np.float64),
        broken_by=np.where(clean != label, CLEAN, broken_by),
    )


def worst_case(records: Sequence[ImageRecords]) -> ImageRecords:
    """Return what several attacks on the same images come to: an image stands if all leave it.

    A broken image has the row of the first attack that broke it, one that stands the row of the
    attack that came closest (least margin). Queries are added up.

    Raises:
        InputError: if there is none, or they are not of the same images.
    """
    if not records:
        raise InputError("there is no attack to take the worst case of")
    first = records[0]
    for other in records[1:]:
        if not (
            np.array_equal(other.index, first.index) and np.array_equal(other.label, first.label)
        ):
            raise InputError("a worst case is over attacks on the same images")
    margins = np.stack([record.adversarial_margin for record in records])
    broken = np.stack([~record.robust for record in records])
    chosen = np.where(broken.any(0), broken.argmax(0), np.nan_to_num(margins, nan=np.inf).argmin(0))

    def of_chosen(name: str) -> np.ndarray:
        stacked = np.stack([getattr(record, name) for record in records])
        picked: np.ndarray = stacked[chosen, np.arange(len(first))]
        return picked

    return ImageRecords(
        **{
            column.name: of_chosen(column.name)
            for column in fields(ImageRecords)
            if column.name != "queries"
        },
        queries=np.sum([record.queries for record in records], axis=0),
    )
