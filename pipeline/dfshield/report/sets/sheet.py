"""A sheet of texts and images at given places, as PNG and as SVG alike."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from xml.sax.saxutils import escape

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from dfshield.report.grid import FONT_SIZE, PLATE, QUIET, TEXT, font_of


@dataclass(frozen=True)
class Text:
    """A line of text whose left or horizontal middle, and vertical middle, is at (x, y)."""

    x: float | int
    y: float | int
    text: str
    bold: bool = False
    quiet: bool = False
    centred: bool = False


@dataclass(frozen=True, eq=False)
class Cell:
    """An image (h, w, 3) with its top left corner at (x, y), enlarged by the sheet's scale."""

    x: int
    y: int
    pixels: UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True, eq=False)
class Sheet:
    """What is drawn: texts and images on a plate.

    Attributes:
        width: in pixels.
        height: in pixels.
        scale: how much images are enlarged, without interpolation.
        texts: all lines of text.
        cells: all images.
    """

    width: int
    height: int
    scale: int
    texts: Sequence[Text]
    cells: Sequence[Cell]

    def png(self) -> bytes:
        """Return it as a PNG."""
        picture = Image.new("RGB", (self.width, self.height), PLATE)
        draw = ImageDraw.Draw(picture)
        for text in self.texts:
            draw.text(
                (text.x, text.y),
                text.text,
                fill=QUIET if text.quiet else TEXT,
                font=font_of("DejaVuSans-Bold.ttf" if text.bold else "DejaVuSans.ttf"),
                anchor="mm" if text.centred else "lm",
            )
        for cell in self.cells:
            enlarged = cell.pixels.repeat(self.scale, axis=0).repeat(self.scale, axis=1)
            picture.paste(Image.fromarray(enlarged), (cell.x, cell.y))
        return _encoded(picture)

    def svg(self) -> bytes:
        """Return it as an SVG, in which text is text and every image one of its own size."""
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" '
            f'height="{self.height}" viewBox="0 0 {self.width} {self.height}">',
            f'<rect width="100%" height="100%" fill="{PLATE}"/>',
            f'<g font-family="DejaVu Sans, Verdana, Arial, sans-serif" font-size="{FONT_SIZE}" '
            'dominant-baseline="central">',
        ]
        for text in self.texts:
            look = f' fill="{QUIET if text.quiet else TEXT}"'
            look += ' font-weight="bold"' if text.bold else ""
            look += ' text-anchor="middle"' if text.centred else ""
            lines.append(f'<text x="{text.x:g}" y="{text.y:g}"{look}>{escape(text.text)}</text>')
        lines.append('</g><g style="image-rendering: pixelated">')
        for cell in self.cells:
            height, width = (self.scale * side for side in cell.pixels.shape[:2])
            content = b64encode(_encoded(Image.fromarray(cell.pixels))).decode()
            lines.append(
                f'<image x="{cell.x}" y="{cell.y}" width="{width}" height="{height}" '
                f'href="data:image/png;base64,{content}"/>'
            )
        return "\n".join([*lines, "</g></svg>", ""]).encode()


def _encoded(picture: Image.Image) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
