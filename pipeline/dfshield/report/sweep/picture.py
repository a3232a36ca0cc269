"""A picture before it is drawn, and the notes under it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import wrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dfshield.report.drawing import Palette
from dfshield.report.grid import drawable_names
from dfshield.report.sweep.settings import Measure

_NOTE_WIDTH = 102  # characters
_NOTE_LINE = 0.145  # inches
_TITLE_WIDTH = 64  # characters


@dataclass(frozen=True)
class Picture:
    """Panels to be drawn one below the other.

    Attributes:
        title: for the page, above the picture.
        alt: for those who do not see it.
        heights: of the panels, in inches.
        notes: sentences under the picture: what signs and bands mean.
        paint: draws on the axes of the panels.
    """

    title: str
    alt: str
    heights: tuple[float, ...]
    notes: tuple[str, ...]
    paint: Callable[[Sequence[Axes], Palette], None]

    @property
    def all_heights(self) -> tuple[float, ...]:
        """Of the panels, with room for the notes spread over them."""
        more = _NOTE_LINE * len(self._note_lines) / len(self.heights)
        return tuple(height + more for height in self.heights)

    def draw(self, axes: Sequence[Axes], palette: Palette) -> None:
        """Draw the panels and the notes."""
        figure_of(axes[0]).supxlabel(
            "\n".join(self._note_lines),
            x=0.01,
            ha="left",
            fontsize=7.5,
            color=palette.quiet,
            linespacing=1.3,
        )
        self.paint(axes, palette)

    @property
    def _note_lines(self) -> list[str]:
        return [line for note in self.notes for line in wrap(note, _NOTE_WIDTH)]


def figure_of(axis: Axes) -> Figure:
    """Return the whole figure that a panel is in."""
    figure = axis.get_figure(root=True)
    assert figure is not None  # panels are made by a figure
    return figure


def panel_title(measure: Measure, held: str) -> str:
    """Return what stands above a panel: what is shown, and where other axes are held."""
    return "\n".join([f"{measure.heading}, %", *held_lines(held)])


def held_lines(held: str) -> list[str]:
    """Return the text in lines that fit above a panel."""
    return wrap(held, _TITLE_WIDTH)


def mark_recommended(axis: Axes, x: float, y: float, palette: Palette) -> None:
    """Put the star of the recommended setting on a point."""
    axis.plot(
        x,
        y,
        "*",
        color=palette.smooth,
        markeredgecolor=palette.ground,
        markersize=14,
        zorder=4,
    )


def drawable(texts: Sequence[str], *, length: int = 26) -> list[str]:
    """Return texts that the font of the pictures can show, cut to ``length`` characters."""
    return drawable_names(texts, length=length)
