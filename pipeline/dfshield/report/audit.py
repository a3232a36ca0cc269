"""An audit as one HTML page that needs no network, and its figures."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes

from dfshield.epsilon import Norm
from dfshield.report.drawing import Palette, light_and_dark
from dfshield.report.scores import format_eps
from dfshield.report.templating import environment
from dfshield.report.views import View, checked
from dfshield.results import DataInfo

VERDICT_MEANING = {
    "pass": "holds",
    "warn": "worth a look",
    "fail": "figures of robustness against gradient attacks cannot be believed",
    "not run": "what it needs was not given",
}


class AuditLine(View):
    """One line of an audit."""

    key: str
    title: str
    verdict: Literal["pass", "warn", "fail", "not run"]
    finding: str
    evidence: Mapping[str, Any]
    source: str


class AuditLandscape(View):
    """The loss around some images; see :class:`dfshield.audit.Landscape`."""

    positions: tuple[float, ...]
    surface: tuple[tuple[float, ...], ...]
    line_positions: tuple[float, ...]
    along_gradient: tuple[tuple[float, ...], ...]
    along_random: tuple[tuple[float, ...], ...]


class AuditView(View):
    """An audit as it stands in its JSON."""

    model: str
    model_fingerprint: str | None
    data: DataInfo
    norm: Norm
    eps: float
    seed: int
    checks: tuple[AuditLine, ...]
    landscape: AuditLandscape
    seconds: float
    versions: Mapping[str, str]

    @property
    def failed(self) -> list[AuditLine]:
        """The lines that fail."""
        return [line for line in self.checks if line.verdict == "fail"]

    @property
    def counts(self) -> dict[str, int]:
        """How many lines have each verdict, without those that none has."""
        verdicts = [line.verdict for line in self.checks]
        return {name: verdicts.count(name) for name in VERDICT_MEANING if name in verdicts}

    def evidence(self, key: str) -> Mapping[str, Any]:
        """The numbers of a line; empty if there is no such line."""
        return next((line.evidence for line in self.checks if line.key == key), {})


def render_audit(
    report: Mapping[str, Any],
    *,
    landscape: tuple[bytes, bytes] | None = None,
    curves: tuple[bytes, bytes] | None = None,
) -> str:
    """Return an audit as a self-contained HTML page.

    Args:
        report: an audit as it stands in its JSON.
        landscape: what `landscape_figure` returned; drawn if it is left out.
        curves: what `curves_figure` returned; drawn if it is left out.

    Raises:
        InputError: a field is missing or has the wrong type.
    """
    view = checked(AuditView, report, "audit")
    return (
        environment()
        .get_template("audit.html.j2")
        .render(
            audit=view,
            meanings={name: VERDICT_MEANING[name] for name in view.counts},
            figure_of={
                "landscape": landscape or landscape_figure(report),
                "curves": curves or curves_figure(report),
            },
        )
    )


def landscape_figure(report: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """Return PNGs of the loss: its mean over a plane, and along both axes for single images.

    The first is for light pages, the second for dark ones.

    Raises:
        InputError: a field is missing or has the wrong type.
    """
    view = checked(AuditView, report, "audit")
    around = view.landscape

    def paint(axes: Sequence[Axes], palette: Palette) -> None:
        _surface(axes[0], around)
        _lines(axes[1], around.line_positions, around.along_gradient, palette.student)
        axes[1].set_title("Along the gradient, one line per image", loc="left")
        _lines(axes[2], around.line_positions, around.along_random, palette.clean)
        axes[2].set_title("Along a random direction", loc="left")
        axes[2].set_xlabel(f"distance from the image, in radii of {format_eps(view.eps)}")

    return light_and_dark([3.2, 1.9, 1.9], paint)


def _surface(axis: Axes, around: AuditLandscape) -> None:
    places = np.array(around.positions)
    drawing = axis.contourf(places, places, np.array(around.surface), levels=24, cmap="viridis")
    axis.figure.colorbar(drawing, ax=axis, label="mean cross-entropy")
    axis.plot(0, 0, "o", color="white", markersize=4, markeredgecolor="black")
    axis.set_title("Mean loss around the images", loc="left")
    axis.set_xlabel("along the gradient, radii")
    axis.set_ylabel("random direction, radii")


def _lines(
    axis: Axes, places: Sequence[float], lines: Sequence[Sequence[float]], colour: str
) -> None:
    for line in lines:
        axis.plot(places, line, color=colour, linewidth=0.8, alpha=0.7)
    axis.set_ylabel("cross-entropy")
    axis.grid(axis="y")


def curves_figure(report: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """Return PNGs of the accuracy over the steps of PGD and over the radius of the ball.

    The first is for light pages, the second for dark ones.

    Raises:
        InputError: a field is missing or has the wrong type.
    """
    view = checked(AuditView, report, "audit")

    def paint(axes: Sequence[Axes], palette: Palette) -> None:
        for axis, key, quantity in (
            (axes[0], "more-steps", "steps"),
            (axes[1], "larger-eps", "eps"),
        ):
            found = view.evidence(key)
            values, accuracy = found.get(quantity, []), found.get("accuracy", [])
            axis.plot(values, [100 * a for a in accuracy], "o-", color=palette.student, ms=3.5)
            axis.set_xscale("log")
            axis.minorticks_off()
            names = [format_eps(v) if quantity == "eps" else f"{v:g}" for v in values]
            axis.set_xticks(values, names)
            axis.set_ylim(-3, 103)
            axis.set_ylabel("accuracy, %")
            axis.grid(axis="y")
            axis.axhline(
                100 * view.evidence("floor").get("floor", 0.0),
                color=palette.alarm,
                linestyle=(0, (3, 2)),
                linewidth=1,
            )
        axes[0].set_title("Accuracy over the steps of PGD (dashed: floor)", loc="left")
        axes[1].set_title("Accuracy over the radius, PGD-20", loc="left")

    return light_and_dark([1.9, 1.9], paint)
