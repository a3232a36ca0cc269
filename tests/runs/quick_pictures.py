"""Runs of tests whose pictures are painted, but not rendered: that is two thirds of a small run."""

from io import BytesIO

import pytest
from matplotlib.figure import Figure
from PIL import Image

from dfshield.report import drawing


@pytest.fixture
def quick_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every panel is painted with what the run has; a PNG is an empty one of its size, an SVG real.

    The tests of the report, the examples and the runs on Ray draw all of it.
    """
    real = drawing._saved

    def saved(figure: Figure, form: drawing.Form) -> bytes:
        if form == "svg":
            return real(figure, form)
        buffer = BytesIO()
        size = [round(inches * figure.dpi) for inches in figure.get_size_inches()]
        Image.new("1", (size[0], size[1])).save(buffer, "PNG")
        return buffer.getvalue()

    monkeypatch.setattr(drawing, "_saved", saved)
    monkeypatch.setattr(drawing, "_lay_out", lambda figure, like: figure.set_layout_engine(None))


@pytest.fixture(autouse=True)
def always_quick(quick_pictures: None) -> None:
    """For whoever imports it: `quick_pictures` in every test."""
