"""Loss surfaces as contour lines, one panel a model, all on one scale."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm

from dfshield.brief import Brief
from dfshield.report.csv_table import csv_bytes
from dfshield.report.drawing import Form, Palette, in_every_form
from dfshield.report.grid import drawable_names
from dfshield.report.sweep.picture import Picture, figure_of

_HEIGHT = 3.9  # inches
_LEVELS = 25
_LEAST = 1e-3
"""Losses below are drawn as this: the scale is logarithmic."""


@dataclass(frozen=True, eq=False, repr=False)
class SurfaceView(Brief):
    """The loss around the weights of one model.

    Attributes:
        name: of the model.
        at: coordinates of both axes, in multiples of the directions.
        losses: by v, then by u; not finite where the model gives no number.
        rises: by radius, how far the loss rises on average on a circle.
    """

    name: str
    at: Float64[np.ndarray, " m"]
    losses: Float64[np.ndarray, "m m"]
    rises: Mapping[float, float]

    @property
    def centre(self) -> float:
        """The loss of the model as it is."""
        middle = len(self.at) // 2
        return float(self.losses[middle, middle])


def surface_figure(views: Sequence[SurfaceView], what: str) -> dict[Form, bytes]:
    """Return the picture: a panel a model, with the same axes and the same colours.

    Args:
        views: the surfaces.
        what: what is drawn, in words: ``cross-entropy under PGD-10``.
    """
    finite = np.concatenate([view.losses[np.isfinite(view.losses)] for view in views])
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (1.0, 1.0)
    low = max(low, _LEAST)
    levels = np.geomspace(low, max(high, 1.01 * low), _LEVELS)

    def paint(axes: Sequence[Axes], palette: Palette) -> None:
        colours = LinearSegmentedColormap.from_list("loss", [palette.ground, palette.student])
        for axis, view in zip(axes, views, strict=True):
            _panel(axis, view, levels, colours, palette)

    picture = Picture(
        title="Loss surfaces",
        alt=f"Contours of the {what} around the weights of each model",
        heights=(_HEIGHT,) * len(views),
        notes=(
            f"The {what}, on one logarithmic scale for all, along two filter-normalised random "
            "directions, the same draws for all.",
        ),
        paint=paint,
    )
    return in_every_form(picture.all_heights, picture.draw)


def _panel(
    axis: Axes,
    view: SurfaceView,
    levels: Float64[np.ndarray, " k"],
    colours: LinearSegmentedColormap,
    palette: Palette,
) -> None:
    shown = np.ma.masked_invalid(view.losses).clip(levels[0], levels[-1])
    scale = LogNorm(levels[0], levels[-1])
    filled = axis.contourf(view.at, view.at, shown, levels, cmap=colours, norm=scale)
    axis.contour(view.at, view.at, shown, levels[::2], colors=[palette.quiet], linewidths=0.4)
    axis.plot(0, 0, "+", color=palette.alarm, markersize=8)
    figure_of(axis).colorbar(filled, ax=axis, format="%.3g", ticks=levels[::4])
    (name,) = drawable_names([view.name], length=60)
    rises = ", ".join(f"{rise:+.3g} at {radius:g}" for radius, rise in view.rises.items())
    axis.set_title(f"{name}\nloss {view.centre:.3g}; mean rise\n{rises}", loc="left")
    axis.set_xlabel("first direction")
    axis.set_ylabel("second direction")
    axis.set_aspect("equal")


def finite(value: float) -> float | None:
    """Return a number for JSON and CSV; None for what is none."""
    return float(value) if np.isfinite(value) else None


def surface_table(views: Sequence[SurfaceView]) -> bytes:
    """Return a CSV with the loss at every point; what is no number is an empty field."""
    return csv_bytes(_rows(views), ("model", "u", "v", "loss"))


def _rows(views: Sequence[SurfaceView]) -> Iterator[dict[str, Any]]:
    for view in views:
        for v, row in zip(view.at, view.losses, strict=True):
            for u, loss in zip(view.at, row, strict=True):
                yield {"model": view.name, "u": float(u), "v": float(v), "loss": finite(loss)}
