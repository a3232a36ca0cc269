"""All pictures of a sweep: which apply is decided from its axes and from what was measured."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from dfshield.report.drawing import DARK, LIGHT, Look, drawn
from dfshield.report.sweep.axes import LAMBDA1, LAMBDA2, Axis
from dfshield.report.sweep.curves import curves
from dfshield.report.sweep.heatmap import heat_map
from dfshield.report.sweep.picture import Picture
from dfshield.report.sweep.scatter import pareto, proxy_scatter
from dfshield.report.sweep.settings import holdout_measures
from dfshield.report.sweep.trials import SweepData
from dfshield.report.sweep.view import SweepView, view_of

_LOOKS = (Look(LIGHT), Look(DARK), Look(LIGHT, "svg"))


@dataclass(frozen=True)
class SweepFigure:
    """One picture, drawn.

    Attributes:
        title: for above it.
        alt: for those who do not see it.
        png: for light pages.
        png_dark: for dark pages.
        svg: for light pages, with text as text.
    """

    title: str
    alt: str
    png: bytes
    png_dark: bytes
    svg: bytes


def sweep_figures(data: SweepData) -> dict[str, SweepFigure]:
    """Return the pictures that apply, by a name that can be one of a file: ``"heatmap-tau-k"``.

    A heat map for every two axes of numbers or of cases that span a grid, curves over every axis of
    numbers, the Pareto front, where there are real images also by measures without them, and the
    hold-out against real images. The same data give the same bytes.
    """
    return {name: _draw(picture) for name, picture in _pictures(view_of(data)) if picture}


def _pictures(view: SweepView) -> Iterator[tuple[str, Picture | None]]:
    for rows, columns in combinations(view.axes, 2):
        if (rows.key, columns.key) == (LAMBDA2, LAMBDA1):
            rows, columns = columns, rows  # as in the paper
        name = f"heatmap-{_slug(rows)}-{_slug(columns)}"
        yield name, heat_map(view, rows, columns)
    for axis in view.axes:
        yield f"curves-{_slug(axis)}", curves(view, axis)
    yield "pareto", pareto(view, view.clean, view.robust, view.front)
    if view.clean.source == "test":
        yield "pareto-holdout", pareto(view, *holdout_measures(view.data), view.holdout_front)
    yield "proxy", proxy_scatter(view)


def _slug(axis: Axis) -> str:
    """Return a part of a file name: the end of a path that has a symbol or is one of cases."""
    short = axis.named or axis.label not in axis.key
    text = axis.key.rpartition(".")[2] if short else axis.key
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "axis"


def _draw(picture: Picture) -> SweepFigure:
    png, dark, svg = drawn(picture.all_heights, picture.draw, *_LOOKS)
    return SweepFigure(title=picture.title, alt=picture.alt, png=png, png_dark=dark, svg=svg)
