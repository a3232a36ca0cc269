"""Features of several sets in the plane in which those of real images vary most."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Integer
from matplotlib.axes import Axes

from dfshield.brief import Brief
from dfshield.report.csv_table import csv_bytes
from dfshield.report.drawing import ABOVE, Form, Palette, in_every_form
from dfshield.report.grid import drawable_names
from dfshield.report.sweep.picture import Picture

_HEIGHT = 3.6  # inches
_COLUMNS = ("set", "method", "seed", "class", "component_1", "component_2")


@dataclass(frozen=True, eq=False, repr=False)
class PointsView(Brief):
    """Points of one set, or of the real images.

    Attributes:
        name: of the set.
        method: how its images were made.
        seed: with which; None for real images.
        num_images: how many were taken, of which the points are drawn.
        labels: class of every point.
        points: coordinates.
    """

    name: str
    method: str
    seed: int | None
    num_images: int
    labels: Integer[np.ndarray, " n"]
    points: Float64[np.ndarray, "n 2"]


@dataclass(frozen=True, eq=False, repr=False)
class PlaneView(Brief):
    """Real images, the sets laid over them one by one, and what the plane shows.

    Attributes:
        real: the points that every panel has.
        sets: one panel each.
        shares: of the variance of the real features, one an axis.
        seed: that samples and points were drawn with.
    """

    real: PointsView
    sets: tuple[PointsView, ...]
    shares: tuple[float, ...]
    seed: int


def plane_figure(view: PlaneView, features: str) -> dict[Form, bytes]:
    """Return the picture: a panel a set, over the real images, all with the same axes.

    Args:
        view: what is shown.
        features: in words, for the axes: ``teacher features``.
    """
    both = np.concatenate([view.real.points, *(each.points for each in view.sets)])
    low, high = both.min(axis=0), both.max(axis=0)
    room = 0.03 * np.maximum(high - low, 1e-9)

    def paint(axes: Sequence[Axes], palette: Palette) -> None:
        for axis, each in zip(axes, view.sets, strict=True):
            _scatter(axis, view.real, palette.teacher, 3.0)
            _scatter(axis, each, palette.student, 3.0)
            axis.set_xlim(low[0] - room[0], high[0] + room[0])
            axis.set_ylim(low[1] - room[1], high[1] + room[1])
            (title,) = drawable_names([f"{each.name} · {each.method}"], length=64)
            # Two lines: the legend stands below the title.
            axis.set_title(f"{title} · seed {each.seed}\n", loc="left")
            axis.legend(loc="lower left", ncols=2, markerscale=2.5, **ABOVE)
            axis.set_ylabel(_label(view, features, 1))
            axis.set_xlabel(_label(view, features, 0))
            axis.grid(axis="both")

    fitted = f"Fitted on the {features} of {view.real.num_images:,} real images alone"
    picture = Picture(
        title="Features in a plane",
        alt="Scatter of two principal components, a panel a set over the real images",
        heights=(_HEIGHT,) * len(view.sets),
        notes=(f"{fitted}; images are drawn with seed {view.seed}.",),
        paint=paint,
    )
    return in_every_form(picture.all_heights, picture.draw)


def _scatter(axis: Axes, of: PointsView, colour: str, size: float) -> None:
    (name,) = drawable_names([of.name], length=16)
    shown = f"{len(of.points):,} of {of.num_images:,}"
    axis.scatter(
        of.points[:, 0],
        of.points[:, 1],
        s=size,
        color=colour,
        alpha=0.5,
        linewidths=0,
        rasterized=True,  # thousands of points make an SVG that no program opens
        label=f"{name}, {shown} images",
    )


def _label(view: PlaneView, features: str, component: int) -> str:
    share = view.shares[component]
    return f"component {component + 1} of real {features}, {share:.0%} of variance"


def plane_table(view: PlaneView) -> bytes:
    """Return a CSV with the coordinates of every point of the picture."""
    return csv_bytes(_rows(view), _COLUMNS)


def _rows(view: PlaneView) -> Iterator[dict[str, Any]]:
    for of in (view.real, *view.sets):
        for label, (x, y) in zip(of.labels, of.points, strict=True):
            yield {
                "set": of.name,
                "method": of.method,
                "seed": of.seed,
                "class": int(label),
                "component_1": float(x),
                "component_2": float(y),
            }
