"""Metrics of several sets against real images: bars side by side, and the numbers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from dfshield.report.csv_table import csv_bytes
from dfshield.report.drawing import Form, Palette, in_every_form
from dfshield.report.grid import drawable_names
from dfshield.report.sweep.picture import Picture

Measured = Mapping[str, Any]
"""What was measured of all sets, as in its JSON."""


def score_bars(measured: Measured) -> dict[Form, bytes]:
    """Return the picture: a panel a figure, a bar a set; below, what the figures depend on.

    Args:
        measured: sets with their ``values``, and the ``scores`` that describe these.
    """
    scores, sets = measured["scores"], measured["sets"]
    names = drawable_names([each["name"] for each in sets], length=24)
    ticks = [f"{n}, M {s['num_images']:,}" for n, s in zip(names, sets, strict=True)]

    def paint(axes: Sequence[Axes], palette: Palette) -> None:
        for axis, (key, score) in zip(axes, scores.items(), strict=True):
            values = [each["values"][key] for each in sets]
            axis.barh(range(len(sets)), values, height=0.66, color=palette.student)
            for place, value in enumerate(values):
                axis.annotate(
                    format_score(value, score["unit"]),
                    (value, place),
                    xytext=(4, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=8,
                )
            axis.set_yticks(range(len(sets)), ticks)
            axis.set_ylim(len(sets) - 0.45, -0.55)
            axis.set_xlim(0, 1.14 * max(*values, 1e-9))
            unit = "" if score["unit"] == "share" else f", {score['unit']}"
            axis.set_title(f"{score['title']}{unit} ({score['better']} is better)", loc="left")
            axis.grid(axis="x")

    picture = Picture(
        title="Diversity",
        alt="Bars of every figure, one a set",
        heights=(0.62 + 0.26 * len(sets),) * len(scores),
        notes=(f"Measured on real images: {settings_line(measured)}.",),
        paint=paint,
    )
    return in_every_form(picture.all_heights, picture.draw)


def format_score(value: float, unit: str) -> str:
    """Return a value as tables show it: a count of bins is a whole number."""
    return f"{value:.0f}" if unit == "bins" else f"{value:.3f}"


def settings_line(measured: Measured) -> str:
    """Return in one line all that the figures depend on."""
    real, space = measured["real"], measured["features"]
    options = [
        f"{key} {value}"
        for metric in measured["metrics"]
        for key, value in metric.items()
        if key != "name"
    ]
    return ", ".join(
        [
            f"features {space['name']} (d {space['dimensions']})",
            *options,
            f"N {real['num_images']:,} real images of {real['name']} ({real['split']})",
            f"seed {measured['seed']}",
        ]
    )


def score_table(measured: Measured) -> bytes:
    """Return a CSV with a row for every set: its figures, and all that they depend on."""
    rows = list(_rows(measured))
    return csv_bytes(rows, rows[0])


def _rows(measured: Measured) -> Iterator[dict[str, Any]]:
    options = {
        f"{metric['name']}.{key}": value
        for metric in measured["metrics"]
        for key, value in metric.items()
        if key != "name"
    }
    real = measured["real"]
    for each in measured["sets"]:
        yield {
            "set": each["name"],
            "method": each["method"],
            "set_seed": each["seed"],
            "num_images": each["num_images"],
            **each["values"],
            "features": measured["features"]["name"],
            "dimensions": measured["features"]["dimensions"],
            **options,
            "real": f"{real['name']} ({real['split']})",
            "num_real": real["num_images"],
            "seed": measured["seed"],
        }
