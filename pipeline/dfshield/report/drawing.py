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


def drawn(
    heights: Sequence[float],
    paint: Callable[[Sequence[Axes], Palette], None],
    *,
    dark: bool,
    form: Form = "png",
) -> bytes:
    """Return the picture of panels stacked in one column, ``heights`` inches tall.

    The same panels give the same bytes. In an SVG, text is text.
    """
    palette = DARK if dark else LIGHT
    with matplotlib.rc_context():
        _apply(palette)
        figure = Figure(figsize=(_WIDTH, sum(heights)), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)
        paint(list(axes[:, 0]), palette)
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
