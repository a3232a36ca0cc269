"""What all charts share: palettes for light and dark pages, and a canvas of stacked panels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_WIDTH = 5.6  # inches
_DPI = 160

Form = Literal["png", "svg"]
FORMS: tuple[Form, ...] = ("png", "svg")
"""What pictures may be written as."""

ABOVE: dict[str, Any] = {"bbox_to_anchor": (0, 1.0), "borderaxespad": 0.3}
"""Where a legend with ``loc="lower left"`` stands to be above its panel."""


@dataclass(frozen=True)
class Palette:
    """Colours that stay apart for colour-blind readers; the page uses the same ones."""

    ground: str
    text: str
    quiet: str
    grid: str
    teacher: str
    student: str
    clean: str
    smooth: str
    other: str
    alarm: str


LIGHT = Palette(
    ground="#ffffff",
    text="#1d2430",
    quiet="#5c6675",
    grid="#e3e7ed",
    teacher="#a3acba",
    student="#0f766e",
    clean="#2563c9",
    smooth="#b45309",
    other="#7c3aed",
    alarm="#b42318",
)
DARK = Palette(
    ground="#1b2027",
    text="#e8ebf0",
    quiet="#a2abb8",
    grid="#323a45",
    teacher="#76808f",
    student="#2fb5a6",
    clean="#78a9ff",
    smooth="#f0a35b",
    other="#c4a5ff",
    alarm="#ff8a7a",
)


@dataclass(frozen=True)
class Look:
    """What a picture is for: light or dark pages, as one file format."""

    palette: Palette
    form: Form = "png"


def drawn(
    heights: Sequence[float],
    paint: Callable[[Sequence[Axes], Palette], None],
    *looks: Look,
) -> tuple[bytes, ...]:
    """Return the picture of panels stacked in one column, ``heights`` inches tall, in every look.

    The panels are painted once for a palette and laid out once for all, since where things stand
    does not depend on their colours. The same panels give the same bytes, with whatever other looks
    they are drawn. In an SVG, text is text.
    """
    pictures: dict[Look, bytes] = {}
    laid_out: Figure | None = None
    for palette in dict.fromkeys(look.palette for look in looks):
        with matplotlib.rc_context():
            _apply(palette)  # until the end: ticks are made, with their colours, as they are drawn
            figure = _painted(heights, paint, palette)
            _lay_out(figure, like=laid_out)
            laid_out = laid_out or figure
            for look in looks:
                if look.palette == palette:
                    pictures[look] = _saved(figure, look.form)
    return tuple(pictures[look] for look in looks)


def light_and_dark(
    heights: Sequence[float], paint: Callable[[Sequence[Axes], Palette], None]
) -> tuple[bytes, bytes]:
    """Return `drawn` panels as PNGs for light and for dark pages."""
    light, dark = drawn(heights, paint, Look(LIGHT), Look(DARK))
    return light, dark


def in_every_form(
    heights: Sequence[float], paint: Callable[[Sequence[Axes], Palette], None]
) -> dict[Form, bytes]:
    """Return `drawn` panels for light pages, in each of `FORMS`."""
    pictures = drawn(heights, paint, *(Look(LIGHT, form) for form in FORMS))
    return dict(zip(FORMS, pictures, strict=True))


def _painted(
    heights: Sequence[float],
    paint: Callable[[Sequence[Axes], Palette], None],
    palette: Palette,
) -> Figure:
    figure = Figure(figsize=(_WIDTH, sum(heights)), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)
    paint(list(axes[:, 0]), palette)
    return figure


def _lay_out(figure: Figure, *, like: Figure | None) -> None:
    """Put panels and notes where they stand in another figure of the same, or work it out."""
    engine = figure.get_layout_engine()
    assert engine is not None  # `_painted` asks for one
    if like is None:
        engine.execute(figure)
    else:
        for axis, other in zip(figure.axes, like.axes, strict=True):
            for which in ("original", "active"):
                axis.set_position(other.get_position(which == "original"), which)
            axis.set_anchor(other.get_anchor())
            axis.set_box_aspect(other.get_box_aspect())
        for text, placed in zip(figure.texts, like.texts, strict=True):
            text.set_position(placed.get_position())
    figure.set_layout_engine(None)  # with one, whatever is saved is drawn twice


def _saved(figure: Figure, form: Form) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format=form, metadata=_NO_TRACE[form])
    return buffer.getvalue()


# Without these a picture tells when and by which release of Matplotlib it was made.
_NO_TRACE: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
}


def _apply(palette: Palette) -> None:
    """Set the look of all that is drawn until the enclosing ``rc_context`` ends."""
    # DejaVu Sans comes with Matplotlib; whoever shows an SVG without it takes the next name.
    fonts = {"sans-serif": ["DejaVu Sans", "Verdana", "Arial"]}
    matplotlib.rc("font", family="sans-serif", size=9, **fonts)
    # Names of classes are text: a dollar sign in one starts no formula.
    matplotlib.rc("text", color=palette.text, parse_math=False, usetex=False)
    matplotlib.rc("svg", fonttype="none", hashsalt="dfshield")
    matplotlib.rc("hatch", linewidth=0.7)
    matplotlib.rc("figure", facecolor=palette.ground)
    matplotlib.rc("axes", facecolor=palette.ground, edgecolor=palette.grid, axisbelow=True)
    matplotlib.rc("axes", labelcolor=palette.quiet, labelsize=8, titlesize=9, titleweight="bold")
    matplotlib.rc("axes.spines", top=False, right=False)
    matplotlib.rc("grid", color=palette.grid, linewidth=0.7)
    matplotlib.rc("lines", linewidth=1.4)
    matplotlib.rc("legend", frameon=False, fontsize=8, handlelength=1.4, columnspacing=1.2)
    matplotlib.rc("xtick", color=palette.quiet, labelsize=8)
    matplotlib.rc("ytick", color=palette.quiet, labelsize=8)
    matplotlib.rc("xtick.major", size=0)
    matplotlib.rc("ytick.major", size=0)
