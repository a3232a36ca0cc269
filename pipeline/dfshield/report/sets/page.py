"""The images of several sets on one page: a block a set, a column a class, one scale for all."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dfshield.errors import InputError
from dfshield.report.csv_table import csv_bytes
from dfshield.report.grid import (
    CELL_SIDE,
    GAP,
    MARGIN,
    as_colour,
    drawable_names,
    font_of,
)
from dfshield.report.sets.sheet import Cell, Sheet, Text

LINE = 22
MOST_CLASSES = 20
"""Columns: classes beyond are left out, and the page says so."""
_NAME_LENGTH = 7
_COLUMNS = ("set", "method", "seed", "class", "place", "image", "answer", "min", "mean", "max")


@dataclass(frozen=True, eq=False)
class ImageRow:
    """Images of one class.

    Attributes:
        label: number of the class.
        name: of the class.
        images: for each its ``index`` in the set, the class that the teacher gives it (``answer``)
            and its ``pixels`` (c, h, w) in [0, 1].
    """

    label: int
    name: str
    images: tuple[dict[str, Any], ...]


@dataclass(frozen=True, eq=False)
class SetImages:
    """What is shown of a set: its name, how and with which seed it was made, images by class."""

    name: str
    method: str
    seed: int
    rows: tuple[ImageRow, ...]


def image_page(sets: Sequence[SetImages], *, per_class: int, stretch: bool = False) -> Sheet:
    """Return the page of several sets, one below the other, in the order given.

    Args:
        sets: at least one, with images of one shape of 1 or 3 channels.
        per_class: rows of images in a block.
        stretch: scale every image to its own minimum and maximum, so that faint ones show.

    Raises:
        InputError: for images of several shapes, of other channels, or outside [0, 1].
    """
    height, width = _size(sets)
    scale = max(1, round(CELL_SIDE / max(height, width)))
    row_step, column_step = height * scale + GAP, width * scale + GAP
    classes = max(len(each.rows) for each in sets)
    shown = min(classes, MOST_CLASSES)
    contrast = "contrast stretched per image" if stretch else "contrast not stretched"
    lines = [f"{contrast} · {height}×{width} pixels, shown {scale}× · one column a class"]
    if shown < classes:
        lines.append(f"first {shown} of {classes} classes")
    texts = [
        Text(MARGIN, MARGIN + LINE * (n + 0.5), line, quiet=True) for n, line in enumerate(lines)
    ]
    cells = []
    y = MARGIN + LINE * len(lines)
    names: list[str] = []
    for each in sets:
        y += LINE // 2
        (title,) = drawable_names([f"{each.name} · {each.method} · seed {each.seed}"], length=90)
        texts.append(Text(MARGIN, y + LINE / 2, title, bold=True))
        y += LINE
        of_set = [row.name for row in each.rows[:shown]]
        if of_set != names:  # said again only where they change
            names = of_set
            texts += _names(names, y, column_step, width * scale)
            y += LINE
        for column, row in enumerate(each.rows[:shown]):
            for place, image in enumerate(row.images):
                corner = MARGIN + column * column_step, y + place * row_step
                cells.append(Cell(*corner, as_colour(image["pixels"], stretch=stretch)))
        y += per_class * row_step
    widest = max(
        font_of("DejaVuSans-Bold.ttf" if t.bold else "DejaVuSans.ttf").getlength(t.text)
        for t in texts
        if not t.centred
    )
    right = max(shown * column_step - GAP, round(widest))
    return Sheet(right + 2 * MARGIN, y - GAP + MARGIN, scale, texts, cells)


def image_table(sets: Sequence[SetImages]) -> bytes:
    """Return a CSV with a row for every image of the page, those of all classes.

    ``image`` is its place in the set, ``answer`` the class that the teacher gives it; least, mean
    and largest pixel are those of the [0, 1] image.
    """
    return csv_bytes(_rows(sets), _COLUMNS)


def _rows(sets: Sequence[SetImages]) -> Iterator[dict[str, Any]]:
    for each in sets:
        for row in each.rows:
            for place, image in enumerate(row.images):
                pixels = image["pixels"].astype(np.float64)
                yield {
                    "set": each.name,
                    "method": each.method,
                    "seed": each.seed,
                    "class": row.label,
                    "place": place,
                    "image": image["index"],
                    "answer": image["answer"],
                    "min": pixels.min(),
                    "mean": pixels.mean(),
                    "max": pixels.max(),
                }


def _names(names: Sequence[str], y: int, step: int, width: int) -> list[Text]:
    """Return the names of the classes above their columns, cut to fit."""
    return [
        Text(MARGIN + column * step + width / 2, y + LINE / 2, name, quiet=True, centred=True)
        for column, name in enumerate(drawable_names(names, length=_NAME_LENGTH))
    ]


def _size(sets: Sequence[SetImages]) -> tuple[int, int]:
    shapes = {i["pixels"].shape for each in sets for row in each.rows for i in row.images}
    if len(shapes) != 1:
        raise InputError(f"sets: images of one shape are needed, not of {sorted(shapes)}")
    channels, height, width = shapes.pop()
    if channels not in (1, 3):
        raise InputError(f"sets: images of {channels} channels cannot be shown: 1 or 3 can")
    return height, width
