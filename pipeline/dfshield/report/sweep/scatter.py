"""One point per setting: clean against robust, and the hold-out against real test images."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from dfshield.report.drawing import Palette
from dfshield.report.scores import format_percent
from dfshield.report.sweep.choice import EPS_CAUTION, ProxyAgreement
from dfshield.report.sweep.marks import BELOW_FLOOR, COLLAPSED, RECOMMENDED, Mark, marks_of
from dfshield.report.sweep.picture import Picture, drawable, figure_of, mark_recommended
from dfshield.report.sweep.settings import CleanBound, Measure, Setting
from dfshield.report.sweep.view import SweepView

_MOST_NUMBERED = 12
_HALF_WIDTH = 46  # characters


def pareto(
    view: SweepView, clean: Measure, robust: Measure, front: Sequence[Setting]
) -> Picture | None:
    """Return clean against robust figure with the Pareto front, None without two to compare.

    Args:
        view: the sweep.
        clean: the figure across.
        robust: the figure up.
        front: of these two.
    """
    points = _points(view.settings, clean, robust)
    if len(points) < 2 or not view.data.comparable:
        return None
    corners = _points(front, clean, robust)
    numbered = len(front) <= _MOST_NUMBERED
    entries = _entries(view, corners) if numbered else []
    bound = view.bound if view.bound and view.bound.measure == clean else None
    columns = 2 if max(map(len, entries), default=0) <= _HALF_WIDTH else 1

    def paint(axes: Sequence[Axes], palette: Palette) -> None:
        axis = axes[0]
        _scatter(axis, view, points, palette)
        xs, ys = [x for _, x, _ in corners], [y for _, _, y in corners]
        # Going left along the front, the figure at hand holds until a better one is reached.
        axis.plot(xs, ys, color=palette.student, drawstyle="steps-post", linewidth=1.1, zorder=1)
        axis.plot(xs, ys, "o", color=palette.student, markersize=5.5, zorder=3)
        if bound:
            axis.axvline(100 * bound.least, color=palette.quiet, linestyle="--", linewidth=0.9)
        axis.set_xlabel(f"{clean.heading}, %")
        axis.set_ylabel(f"{robust.title}, %")
        axis.set_title(f"{clean.title} against {robust.title}", loc="left")
        if numbered:
            _number(axis, corners, entries, columns, palette)

    return Picture(
        title="Clean against robust"
        if clean.source == "test"
        else "Clean against robust, without real images",
        alt=f"Scatter of {clean.title} against {robust.title}, one point per setting, "
        "with the Pareto front",
        heights=(3.5 + 0.17 * -(-len(entries) // columns),),
        notes=(
            f"In percent: {clean.unit}; one point per setting, mean over its seeds.",
            "Line and large points: the Pareto front, settings that no other beats in both figures"
            + (" (numbered: setting: clean / robust)." if numbered else "; they are in the table."),
            *((f"{view.star}.",) if view.recommended else ()),
            *_bound_said(bound),
            *_signs_said([setting for setting, _, _ in points]),
            *((f"{EPS_CAUTION}.",) if view.data.eps_swept else ()),
        ),
        paint=paint,
    )


def proxy_scatter(view: SweepView) -> Picture | None:
    """Return the hold-out figure against the real one, None where their ranks say nothing."""
    proxy = view.proxy
    if proxy is None:
        return None
    points = _points(view.settings, proxy.proxy, proxy.real)

    def paint(axes: Sequence[Axes], palette: Palette) -> None:
        axis = axes[0]
        _scatter(axis, view, points, palette)
        axis.set_xlabel(f"{proxy.proxy.heading}, %")
        axis.set_ylabel(f"{proxy.real.title} (real test), %")
        axis.set_title(correlation(proxy), loc="left")

    return Picture(
        title="Does the hold-out rank settings like real images do?",
        alt=f"Scatter of {proxy.proxy.title} against {proxy.real.title}; {correlation(proxy)}",
        heights=(3.3,),
        notes=(
            "One point per setting, mean over its seeds.",
            *((f"{view.star}.",) if view.recommended else ()),
            *_signs_said([setting for setting, _, _ in points]),
        ),
        paint=paint,
    )


def correlation(proxy: ProxyAgreement) -> str:
    """Return the rank correlations in words."""
    return (
        f"Rank correlation over {proxy.num_settings} settings: Spearman {proxy.spearman:.2f}, "
        f"Kendall {proxy.kendall:.2f}"
    )


_Point = tuple[Setting, float, float]


def _points(settings: Sequence[Setting], x: Measure, y: Measure) -> list[_Point]:
    """Return the settings that have both figures, with these in percent."""
    return [
        (setting, 100 * across.mean, 100 * up.mean)
        for setting in settings
        if (across := setting.figure(x)) and (up := setting.figure(y))
    ]


def _scatter(axis: Axes, view: SweepView, points: Sequence[_Point], palette: Palette) -> None:
    """Draw every setting: a dot, or its sign; the recommended one gets a star besides."""
    for setting, x, y in points:
        sign = _sign(setting)
        if sign is None:
            axis.plot(x, y, "o", color=palette.quiet, markersize=3.6, zorder=2)
        else:
            shape = "x" if sign is COLLAPSED else "v"
            axis.plot(x, y, shape, color=palette.alarm, markersize=5, fillstyle="none", zorder=2)
        if view.is_recommended(setting):
            mark_recommended(axis, x, y, palette)
    axis.margins(0.09)
    axis.grid(axis="both")


def _bound_said(bound: CleanBound | None) -> list[str]:
    if bound is None:
        return []
    return [
        f"Dashed: {format_percent(bound.share)} of the best clean figure, "
        f"{format_percent(bound.least)}; settings left of it are not recommended."
    ]


def _entries(view: SweepView, corners: Sequence[_Point]) -> list[str]:
    """Return the settings of the front in words, numbered, with their figures."""
    entries = []
    for number, (setting, x, y) in enumerate(corners, start=1):
        star = f"{RECOMMENDED} " if view.is_recommended(setting) else ""
        name = drawable([view.name(setting)], length=72)[0]
        entries.append(f"{number}  {star}{name}: {x:.1f} / {y:.1f}")
    return entries


def _number(
    axis: Axes,
    corners: Sequence[_Point],
    entries: Sequence[str],
    columns: int,
    palette: Palette,
) -> None:
    """Number the points of the front and say above which settings they are."""
    figure = figure_of(axis)
    figure.legend(
        [Line2D([], [], linestyle="none") for _ in entries],
        entries,
        loc="outside upper left",
        ncols=columns,
        handlelength=0,
        handletextpad=0,
        labelcolor=palette.text,
    )
    figure.draw_without_rendering()  # only now it is known where the points stand
    offsets = _offsets(axis, [(x, y) for _, x, y in corners])
    for number, ((_, x, y), offset) in enumerate(zip(corners, offsets, strict=True), start=1):
        axis.annotate(
            str(number),
            (x, y),
            xytext=offset,
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=8,
            fontweight="bold",
            arrowprops={"arrowstyle": "-", "color": palette.quiet, "linewidth": 0.5},
            zorder=5,
        )


def _offsets(axis: Axes, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return where numbers stand beside points so that they cover neither each other nor a point.

    In typographic points. Other settings lie below and left of a front, so above and right is free.
    """
    scale = 72 / figure_of(axis).dpi
    places = [(scale * x, scale * y) for x, y in axis.transData.transform(points)]
    taken, chosen = list(places), []
    for x, y in places:
        free = [
            (right, up)
            for right, up in _BESIDE
            if all(max(abs(x + right - a), abs(y + up - b)) > _APART for a, b in taken)
        ]
        offset = free[0] if free else _BESIDE[0]
        taken.append((x + offset[0], y + offset[1]))
        chosen.append(offset)
    return chosen


_APART = 8.5  # typographic points between the middles of two numbers
_DIRECTIONS = ((1.0, 1.0), (0.3, 1.2), (1.2, 0.3))
_BESIDE = [(out * right, out * up) for out in (9, 16, 24, 34) for right, up in _DIRECTIONS]


def _sign(setting: Setting) -> Mark | None:
    raised = {one.mark for one in marks_of(setting)}
    return next((mark for mark in (COLLAPSED, BELOW_FLOOR) if mark in raised), None)


def _signs_said(settings: Sequence[Setting]) -> list[str]:
    signs = {_sign(setting) for setting in settings}
    said = {COLLAPSED: "Cross", BELOW_FLOOR: "Triangle"}
    return [f"{name}: {mark.name}, {mark.meaning}." for mark, name in said.items() if mark in signs]
