"""Points of a toy in two dimensions over the regions of a network (figure 3)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgb

from dfshield.brief import Brief
from dfshield.report.csv_table import csv_bytes
from dfshield.report.drawing import Form, Palette, in_every_form
from dfshield.report.sweep.picture import Picture

_HEIGHT = 3.4  # inches
_LIGHT = 0.75
"""Share of the ground in the colour of a region."""


@dataclass(frozen=True, eq=False, repr=False)
class ToyPoints(Brief):
    """Points with the classes that they have, or were asked for.

    Attributes:
        name: for above the panel.
        points: coordinates in [0, 1].
        labels: classes, from 0.
    """

    name: str
    points: Float64[np.ndarray, "n 2"]
    labels: Int64[np.ndarray, " n"]


@dataclass(frozen=True, eq=False, repr=False)
class ToyView(Brief):
    """What the picture shows.

    Attributes:
        sets: one panel each.
        regions: the class that the network answers on a grid over [0, 1] x [0, 1], by y, then x.
        num_classes: of the network, at most six.
    """

    sets: tuple[ToyPoints, ...]
    regions: Int64[np.ndarray, "m m"]
    num_classes: int


def toy_figure(view: ToyView) -> dict[Form, bytes]:
    """Return the picture: a panel a set, all over the same regions.

    Args:
        view: what is shown.
    """

    def paint(axes: Sequence[Axes], palette: Palette) -> None:
        p = palette
        colours = [p.student, p.smooth, p.clean, p.other, p.alarm, p.quiet][: view.num_classes]
        regions = ListedColormap([_lightened(colour, p.ground) for colour in colours])
        for axis, each in zip(axes, view.sets, strict=True):
            axis.imshow(
                view.regions,
                cmap=regions,
                vmin=0,
                vmax=view.num_classes - 1,
                extent=(0, 1, 0, 1),
                origin="lower",
                interpolation="nearest",
            )
            axis.scatter(
                each.points[:, 0],
                each.points[:, 1],
                s=4,
                c=[colours[label] for label in each.labels],
                linewidths=0,
                rasterized=True,
            )
            axis.set_title(each.name, loc="left")

    picture = Picture(
        title="Toy",
        alt="Points in the plane over the regions of the network, a panel a set",
        heights=(_HEIGHT,) * len(view.sets),
        notes=("Regions: what the network answers; points: the class that each has or was asked.",),
        paint=paint,
    )
    return in_every_form(picture.all_heights, picture.draw)


def _lightened(colour: str, ground: str) -> tuple[float, float, float]:
    pairs = zip(to_rgb(colour), to_rgb(ground), strict=True)
    red, green, blue = ((1 - _LIGHT) * own + _LIGHT * other for own, other in pairs)
    return red, green, blue


def toy_table(view: ToyView) -> bytes:
    """Return a CSV with every point of the picture."""
    return csv_bytes(_rows(view), ("set", "class", "x", "y"))


def _rows(view: ToyView) -> Iterator[dict[str, Any]]:
    for each in view.sets:
        for label, (x, y) in zip(each.labels, each.points, strict=True):
            yield {"set": each.name, "class": int(label), "x": float(x), "y": float(y)}
