"""Charts of a run as the bytes of two PNGs: for light and for dark pages.

Narrow on purpose: they stay readable on a phone. The same data give the same bytes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from dfshield.report.drawing import ABOVE, Palette, light_and_dark
from dfshield.report.grid import drawable_names, image_grid
from dfshield.report.scores import (
    Comparison,
    EvaluationView,
    Measured,
    compare,
    format_points,
    read_scores,
)
from dfshield.report.views import Epoch, Update, split_history

__all__ = ["accuracy_bars", "image_grid", "prediction_histograms", "training_curves"]


def accuracy_bars(evaluations: Iterable[EvaluationView]) -> tuple[bytes, bytes]:
    """Return PNGs with the accuracy of teacher, student and all others under every attack.

    A bar is the mean over the seeds; every seed is a point with its own 95 % interval. A dashed
    line is the floor: what the best constant classifier reaches on the same images.

    Raises:
        InputError: an evaluation lacks a field.
    """
    comparisons = compare(read_scores(evaluations))

    def paint(axes: Sequence[Axes], palette: Palette) -> None:
        axis = axes[0]
        for position, comparison in enumerate(comparisons):
            _bars(axis, comparison, position, palette)
            axis.plot(
                [100 * comparison.floor] * 2,
                [position - 0.42, position + 0.42],
                color=palette.alarm,
                linestyle=(0, (3, 2)),
                linewidth=1.5,
                label="floor: constant classifier" if position == 0 else None,
            )
        axis.set_yticks(
            range(len(comparisons)),
            [f"{c.label}\n{c.threat}".strip() for c in comparisons],
        )
        axis.set_ylim(max(len(comparisons), 1) - 0.45, -0.55)
        axis.set_xlim(0, 112)
        axis.set_xticks(range(0, 101, 20))
        axis.grid(axis="x")
        axis.set_xlabel("accuracy, % (whiskers: 95 % interval of each seed)")
        if comparisons:
            handles, labels = axis.get_legend_handles_labels()
            unique = dict(zip(labels, handles, strict=True))
            axis.legend(unique.values(), unique.keys(), ncols=3, loc="lower left", **ABOVE)

    group = 0.39 * len(comparisons[0].models) if comparisons else 0.78
    return light_and_dark([0.9 + group * max(len(comparisons), 1)], paint)


@dataclass(frozen=True)
class _Bar:
    """One model in a group of bars; offset and width are shares of the distance of groups."""

    name: str
    measured: Measured
    offset: float
    width: float
    colour: str


def _group(comparison: Comparison, palette: Palette, *, room: float) -> Iterator[_Bar]:
    """Give the models that were measured, side by side in a group that is ``room`` wide."""
    own = {"teacher": palette.teacher, "student": palette.student}
    others = cycle((palette.other, palette.clean, palette.smooth))
    width = room / len(comparison.models)
    middle = (len(comparison.models) - 1) / 2
    for place, (name, measured) in enumerate(comparison.models.items()):
        colour = own.get(name) or next(others)
        if measured is not None:
            yield _Bar(name, measured, (place - middle) * width, width, colour)


def _bars(axis: Axes, comparison: Comparison, position: int, palette: Palette) -> None:
    for bar in _group(comparison, palette, room=0.76):
        measured, y = bar.measured, position + bar.offset
        height = bar.width - 0.04
        axis.barh(y, 100 * measured.accuracy, height=height, color=bar.colour, label=bar.name)
        apart = 0.1 * (bar.width / 0.38)
        count = len(measured.scores)
        shifts = np.linspace(-apart, apart, count) if count > 1 else [0]
        for score, shift in zip(measured.scores, shifts, strict=True):
            low, high = score.interval
            axis.plot([100 * low, 100 * high], [y + shift] * 2, color=palette.text, linewidth=1.1)
            axis.plot(100 * score.accuracy, y + shift, "o", color=palette.text, markersize=2.6)
        end = 100 * max(score.interval[1] for score in measured.scores)
        text = axis.text(end + 1.2, y, format_points(measured.accuracy), va="center", fontsize=8)
        text.set_bbox({"facecolor": palette.ground, "edgecolor": "none", "pad": 0.6})


def prediction_histograms(
    evaluations: Iterable[EvaluationView],
    class_names: Sequence[str] | None = None,
) -> tuple[bytes, bytes]:
    """Return PNGs with the share of predictions that each class takes, one panel per attack.

    Args:
        evaluations: as in their JSON; the seeds are pooled.
        class_names: written under the bars where there are at most twelve; else the numbers are.

    Raises:
        InputError: an evaluation lacks a field.
    """
    comparisons = compare(read_scores(evaluations))

    def paint(axes: Sequence[Axes], palette: Palette) -> None:
        for axis, comparison in zip(axes, comparisons, strict=False):
            _prediction_panel(axis, comparison, class_names, palette)
        if comparisons:
            axes[0].legend(ncols=3, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.3)

    return light_and_dark([1.6] * max(len(comparisons), 1), paint)


def _prediction_panel(
    axis: Axes, comparison: Comparison, class_names: Sequence[str] | None, palette: Palette
) -> None:
    classes = 0
    for bar in _group(comparison, palette, room=0.8):
        shares = bar.measured.prediction_shares
        classes = max(classes, len(shares))
        places = np.arange(len(shares)) + bar.offset
        axis.bar(
            places, [100 * s for s in shares], width=bar.width, color=bar.colour, label=bar.name
        )
    axis.axhline(
        100 / max(classes, 1), color=palette.quiet, linestyle=":", linewidth=1, label="equal shares"
    )
    if classes <= 12:
        names = class_names or [str(number) for number in range(classes)]
        short = drawable_names(names[:classes], length=10)
        turned = any(len(name) > 3 for name in short)
        axis.set_xticks(range(len(short)), short, rotation=30 if turned else 0)
    axis.set_title(comparison.title, loc="left")
    axis.set_ylabel("predictions, %")
    axis.grid(axis="y")


def training_curves(history: Sequence[Mapping[str, Any]]) -> tuple[bytes, bytes]:
    """Return PNGs of one training: loss terms, agreement rate, agreement with the teacher.

    The agreement rate is the share of parameters that GradRefine lets through at an update, in
    [0, 1]; the last panel shows, per epoch, how often the student answers like the teacher on the
    synthetic hold-out, clean and under PGD. A baseline has neither, and the loss alone is shown.

    Raises:
        InputError: a record lacks a field.
    """
    updates, epochs = split_history(history)
    of_baseline = not epochs and all(update.agreement_rate is None for update in updates)

    def paint(axes: Sequence[Axes], palette: Palette) -> None:
        _loss_panel(axes[0], updates, palette)
        if of_baseline:
            return
        _rate_panel(axes[1], updates, palette)
        _holdout_panel(axes[2], epochs, palette)

    return light_and_dark([2.3] if of_baseline else [2.3, 1.7, 2.1], paint)


def _loss_panel(axis: Axes, updates: Sequence[Update], palette: Palette) -> None:
    axis.set_title("Loss", loc="left")
    _line(axis, [update.loss for update in updates], palette.text, "total")
    names = dict.fromkeys(name for update in updates for name in update.terms)
    colours = cycle((palette.clean, palette.student, palette.smooth))
    for name, colour in zip(names, colours, strict=False):
        _line(axis, [update.terms.get(name) for update in updates], colour, name)
    _finish(axis, "update")


def _rate_panel(axis: Axes, updates: Sequence[Update], palette: Palette) -> None:
    axis.set_title("GradRefine: share of parameters whose sign agrees", loc="left")
    _line(axis, [u.agreement_rate for u in updates], palette.student, None)
    _finish(axis, "update", share=True)


def _holdout_panel(axis: Axes, epochs: Sequence[Epoch], palette: Palette) -> None:
    axis.set_title("Synthetic hold-out: agreement with the teacher", loc="left")
    _line(axis, [e.holdout.agreement_clean for e in epochs], palette.clean, "clean")
    _line(axis, [e.holdout.agreement_pgd for e in epochs], palette.student, "under PGD")
    fallen = [n for n, e in enumerate(epochs, start=1) if e.holdout.collapsed]
    if fallen:
        axis.plot(fallen, [0.02] * len(fallen), "x", color=palette.alarm, label="collapsed")
    _finish(axis, "epoch", share=True)


def _line(axis: Axes, values: Sequence[float | None], colour: str, label: str | None) -> None:
    if any(value is not None for value in values):
        heights = [float("nan") if value is None else value for value in values]
        marker = "o" if len(values) <= 30 else None
        axis.plot(
            range(1, len(values) + 1), heights, color=colour, label=label, marker=marker, ms=2.8
        )


def _finish(axis: Axes, unit: str, *, share: bool = False) -> None:
    if not axis.lines:
        axis.text(0.5, 0.5, "nothing recorded", ha="center", va="center", transform=axis.transAxes)
        axis.set_xticks([])
        axis.set_yticks([])
        return
    if share:
        axis.set_ylim(-0.03, 1.03)
    else:
        axis.set_ylim(bottom=min(0.0, axis.get_ylim()[0]))
    axis.set_xlabel(unit)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(axis="y")
    if axis.get_legend_handles_labels()[0]:
        axis.legend(ncols=4, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.3)
