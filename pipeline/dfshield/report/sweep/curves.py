"""Curves over one axis, clean and robust, with a band where there are several seeds."""

from collections.abc import Mapping, Sequence
from math import nan

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from dfshield.report.drawing import Palette
from dfshield.report.sweep.axes import Axis, identity
from dfshield.report.sweep.marks import (
    BELOW_FLOOR,
    COLLAPSED,
    legend,
    marks_of,
)
from dfshield.report.sweep.picture import (
    Picture,
    drawable,
    figure_of,
    held_lines,
    mark_recommended,
    panel_title,
)
from dfshield.report.sweep.settings import Measure, Setting
from dfshield.report.sweep.view import SweepView

_MOST_LINES = 6
_DASHES: tuple[tuple[float, Sequence[float]], ...] = (
    (0, ()),
    (0, (5, 1.5)),
    (0, (2, 1)),
    (0, (6, 1.5, 1, 1.5)),
    (0, (1, 1)),
    (0, (6, 1, 1, 1, 1, 1)),
)
_MARKERS = ("o", "s", "^", "D", "v", "P")


def curves(view: SweepView, axis: Axis) -> Picture | None:
    """Return clean and robust figure over an axis, None where no two of its values were measured.

    One line per setting of the other axes, at most six; with more, one line with the others held at
    the recommended setting, and the titles say so.
    """
    lines, held = view.lines(axis), ""
    if len(lines) > _MOST_LINES:
        settings, held = view.sliced((axis.key,))
        lines = {"": settings}
    shown = [setting for members in lines.values() for setting in members]
    measures = (view.clean, view.robust)
    if not axis.numeric or not any(
        sum(setting.figure(measure) is not None for setting in members) > 1
        for members in lines.values()
        for measure in measures
    ):
        return None

    def paint(panels: Sequence[Axes], palette: Palette) -> None:
        for panel, measure in zip(panels, measures, strict=True):
            _panel(panel, view, axis, measure, lines, palette)
            panel.set_title(panel_title(measure, held), loc="left")
        _add_legend(panels[0], list(lines), palette)

    raised = [one for s in shown for measure in measures for one in marks_of(s, measure)]
    panel_height = 2.1 + 0.15 * len(held_lines(held))
    legend_rows = (len(lines) + 1) // 2 if len(lines) > 1 else 0
    banded = any((f := s.figure(m)) and f.spread is not None for s in shown for m in measures)
    return Picture(
        title=f"Over {axis.label} {held}".strip(),
        alt=f"Two line charts over {axis.label}: {view.clean.title} and {view.robust.title}, "
        f"{view.clean.unit}",
        heights=(panel_height + 0.17 * legend_rows, panel_height),
        notes=(
            f"In percent: {view.clean.unit}. The vertical axis need not begin at zero.",
            *(("Values stand at equal distances.",) if not axis.evenly_spaced else ()),
            *(("Lines: means; bands: ± sample standard deviation over seeds.",) if banded else ()),
            *((f"{view.star}.",) if view.recommended in shown else ()),
            *legend(raised),
        ),
        paint=paint,
    )


def _panel(
    panel: Axes,
    view: SweepView,
    axis: Axis,
    measure: Measure,
    lines: Mapping[str, Sequence[Setting]],
    palette: Palette,
) -> None:
    places = {identity(value): place for place, value in enumerate(axis.values)}
    for number, members in enumerate(lines.values()):
        by_place = {places[s.at(axis.key)]: s for s in members if s.at(axis.key) in places}
        _line(panel, by_place, measure, len(places), number, palette)
        for place, setting in by_place.items():
            _signs(panel, view, setting, measure, place, palette)
    panel.set_xticks(range(len(places)), drawable(axis.ticks, length=10))
    if len(places) > 12:
        panel.tick_params(axis="x", labelrotation=60)
    panel.set_xlim(-0.4, len(places) - 0.6)
    panel.margins(y=0.14)
    panel.set_xlabel(axis.label)
    panel.grid(axis="y")


def _line(
    panel: Axes,
    settings: Mapping[int, Setting],
    measure: Measure,
    length: int,
    number: int,
    palette: Palette,
) -> None:
    means, spreads = np.full(length, nan), np.full(length, nan)
    for place, setting in settings.items():
        if figure := setting.figure(measure):
            means[place] = 100 * figure.mean
            spreads[place] = 100 * figure.spread if figure.spread is not None else nan
    colour = _colours(palette)[number]
    xs = np.arange(length)
    panel.plot(xs, means, color=colour, linestyle=_DASHES[number], marker=_MARKERS[number], ms=3.4)
    if not np.isnan(spreads).all():
        panel.fill_between(
            xs, means - spreads, means + spreads, color=colour, alpha=0.18, linewidth=0
        )


def _signs(
    panel: Axes, view: SweepView, setting: Setting, measure: Measure, place: int, palette: Palette
) -> None:
    """Write what must be known of a point in its place; of one without a figure, at the bottom."""
    figure = setting.figure(measure)
    if figure and view.is_recommended(setting):
        mark_recommended(panel, float(place), 100 * figure.mean, palette)
    raised = marks_of(setting, measure)
    text = " ".join(one.sign for one in raised)
    if not text:
        return
    alarming = any(one.mark in (COLLAPSED, BELOW_FLOOR) for one in raised)
    colour = palette.alarm if alarming else palette.text
    if figure is None:
        transform = panel.get_xaxis_transform()
        panel.text(place, 0.02, text, transform=transform, ha="center", fontsize=8, color=colour)
    else:
        panel.text(
            place,
            100 * figure.mean,
            text,
            ha="center",
            va="center_baseline",
            fontsize=7,
            color=colour,
            path_effects=[withStroke(linewidth=2, foreground=palette.ground)],
        )


def _add_legend(panel: Axes, names: Sequence[str], palette: Palette) -> None:
    if len(names) < 2:
        return
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=colour, linestyle=dash, marker=marker, markersize=3.4)
        for colour, dash, marker, _ in zip(
            _colours(palette), _DASHES, _MARKERS, names, strict=False
        )
    ]
    figure_of(panel).legend(
        handles, drawable(names, length=38), loc="outside upper left", ncols=2, handlelength=2.6
    )


def _colours(palette: Palette) -> tuple[str, ...]:
    return (
        palette.student,
        palette.clean,
        palette.smooth,
        palette.other,
        palette.text,
        palette.teacher,
    )
