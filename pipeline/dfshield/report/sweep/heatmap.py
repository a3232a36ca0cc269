"""Heat maps over two axes: clean and robust figure, printed in every cell."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.patches import Rectangle

from dfshield.report.drawing import Palette
from dfshield.report.scores import format_points
from dfshield.report.sweep.axes import Axis, identity
from dfshield.report.sweep.marks import (
    COLLAPSED,
    RECOMMENDED,
    legend,
    marks_of,
)
from dfshield.report.sweep.picture import Picture, drawable, held_lines, panel_title
from dfshield.report.sweep.settings import Measure, Setting, measures_of
from dfshield.report.sweep.view import SweepView

_MOST = 20  # values of one axis whose cells can still be read
_LEAST_FULL = 0.5  # share of the cells that must have been planned
_ROW = 0.44  # inches
_DEEPEST = 0.75  # share of the full colour: deeper, and figures are harder to read
_NAMES = 60  # characters of all names under a panel
_ROOM = 520  # points across a panel, over the width of a character


def heat_map(view: SweepView, rows: Axis, columns: Axis) -> Picture | None:
    """Return clean and robust figure over two axes, None where they span no grid.

    Over two axes of cases: all figures. Other axes are held at the recommended setting, and the
    titles say so.
    """
    if not (_spans(rows) and _spans(columns)):
        return None
    settings, held = view.sliced((rows.key, columns.key))
    cells = _cells(settings, rows, columns)
    if len(cells) < _LEAST_FULL * len(rows.values) * len(columns.values):
        return None
    both_named = rows.named and columns.named
    measures = measures_of(view.data) if both_named else (view.clean, view.robust)

    def paint(axes: Sequence[Axes], palette: Palette) -> None:
        for axis, measure in zip(axes, measures, strict=True):
            _label(axis, rows, columns)
            _panel(axis, view, measure, cells, palette, spread=both_named)
            axis.set_title(panel_title(measure, held), loc="left")

    raised = [one for s in cells.values() for measure in measures for one in marks_of(s, measure)]
    any_missing = len(cells) < len(rows.values) * len(columns.values)
    return Picture(
        title=f"{rows.label} × {columns.label} {held}".strip(),
        alt=f"Heat maps over {rows.label} (rows) and {columns.label} (columns): "
        f"{' and '.join(measure.title for measure in measures)}, {view.clean.unit}",
        heights=(_ROW * len(rows.values) + 0.72 + 0.15 * len(held_lines(held)),) * len(measures),
        notes=(
            f"In percent: {view.clean.unit}.",
            *((f"Framed, {view.star}.",) if view.recommended in cells.values() else ()),
            *legend(raised),
            *(("An empty cell was not tried.",) if any_missing else ()),
        ),
        paint=paint,
    )


def _spans(axis: Axis) -> bool:
    """Return whether an axis can be one of a grid."""
    return (axis.named or (axis.numeric and len(axis.values) > 1)) and len(axis.values) <= _MOST


_Cells = Mapping[tuple[int, int], Setting]


def _cells(settings: Sequence[Setting], rows: Axis, columns: Axis) -> _Cells:
    """Return the settings by row and column."""
    down = {identity(value): place for place, value in enumerate(rows.values)}
    across = {identity(value): place for place, value in enumerate(columns.values)}
    return {
        (down[s.at(rows.key)], across[s.at(columns.key)]): s
        for s in settings
        if s.at(rows.key) in down and s.at(columns.key) in across
    }


def _panel(
    axis: Axes,
    view: SweepView,
    measure: Measure,
    cells: _Cells,
    palette: Palette,
    *,
    spread: bool,
) -> None:
    standing = [s for s in cells.values() if not s.collapsed]
    known = [figure.mean for s in standing if (figure := s.figure(measure))]
    low, high = min(known, default=0.0), max(known, default=1.0)
    for (row, column), setting in cells.items():
        figure = setting.figure(measure)
        raised = marks_of(setting, measure)
        plain = figure is None or any(one.mark is COLLAPSED for one in raised)
        colour = palette.ground
        if figure is not None and not plain:
            share = (figure.mean - low) / (high - low) if high > low else 0.5
            colour = _mixed(palette.grid, palette.student, _DEEPEST * share)
        axis.add_patch(
            Rectangle(
                (column - 0.5, row - 0.5),
                1,
                1,
                facecolor=colour,
                edgecolor=palette.teacher,
                hatch="////" if plain else None,
                linewidth=0,
            )
        )
        _frame(axis, (column, row), 1.0, palette.ground, 1)
        lines = [figure.words if spread else format_points(figure.mean)] if figure else []
        signs = [one.sign for one in raised]
        if view.is_recommended(setting):
            signs.insert(0, RECOMMENDED)
            _frame(axis, (column, row), 0.92, palette.text, 2)
        text = "\n".join(lines + ([" ".join(signs)] if signs else []))
        _write(axis, (column, row), text, colour, plain)


def _write(axis: Axes, place: tuple[int, int], text: str, colour: str, plain: bool) -> None:
    widest = max(len(line) for line in text.splitlines()) if text else 0
    written = axis.text(
        *place, text, ha="center", va="center", color=_readable_on(colour), linespacing=1.15
    )
    left, right = axis.get_xlim()
    written.set_fontsize(max(5.5, min(9.0, _ROOM / ((right - left) * max(widest, 4)))))
    if plain:
        written.set_bbox({"facecolor": colour, "edgecolor": "none", "pad": 1.0})


def _frame(axis: Axes, place: tuple[int, int], side: float, colour: str, width: int) -> None:
    corner = (place[0] - side / 2, place[1] - side / 2)
    axis.add_patch(
        Rectangle(corner, side, side, fill=False, edgecolor=colour, linewidth=width, zorder=width)
    )


def _label(axis: Axes, rows: Axis, columns: Axis) -> None:
    width = max(10, _NAMES // len(columns.values)) if columns.named else 10
    axis.set_xticks(range(len(columns.values)), drawable(columns.ticks, length=width))
    axis.set_yticks(range(len(rows.values)), drawable(rows.ticks, length=16 if rows.named else 10))
    if len(columns.values) > 11:
        axis.tick_params(axis="x", labelrotation=60)
    axis.set_xlim(-0.5, len(columns.values) - 0.5)
    axis.set_ylim(len(rows.values) - 0.5, -0.5)
    axis.set_xlabel(columns.label)
    axis.set_ylabel(rows.label, rotation=0, ha="right", va="center")
    for spine in axis.spines.values():
        spine.set_visible(False)


def _mixed(start: str, end: str, share: float) -> str:
    """Return the colour at ``share`` in [0, 1] of the way."""
    (r, g, b), (r2, g2, b2) = to_rgb(start), to_rgb(end)
    return to_hex((r + (r2 - r) * share, g + (g2 - g) * share, b + (b2 - b) * share))


def _readable_on(colour: str) -> str:
    """Return black or white, whichever stands out more (contrast as in WCAG 2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "#ffffff"
