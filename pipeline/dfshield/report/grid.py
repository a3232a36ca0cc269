"""A picture of images by class: what the surrogate data look like."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Int, UInt8
from matplotlib.font_manager import get_font
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from dfshield.errors import InputError

# A neutral plate that neither black nor white images melt into, on light and on dark pages.
PLATE, TEXT, QUIET = "#2b2f36", "#eef0f3", "#b4bac4"
MARGIN, GAP, FONT_SIZE = 18, 4, 14
CELL_SIDE = 56  # what small images are enlarged to, about
_GRID_HEIGHT = 2800  # rows beyond are left out, and the picture says so
_NAME_LENGTH = 24
_FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def image_grid(
    images: Float[Tensor, "n c h w"] | npt.NDArray[Any],
    labels: Int[Tensor, " n"] | npt.NDArray[Any] | Sequence[int],
    class_names: Sequence[str],
    *,
    per_class: int = 8,
    title: str | None = None,
    stretch: bool = False,
) -> bytes:
    """Return a PNG with the first images of every class, one row per class.

    Pixels are enlarged without interpolation by a whole factor. Without ``stretch`` a pixel of the
    picture is ``round(255 x)`` of the image's; the picture says which of the two it is.

    Args:
        images: shape (n, c, h, w) with c = 1 or 3, values in [0, 1].
        labels: class of every image, shape (n,).
        class_names: name of every class; written at the left of its row.
        per_class: images in a row.
        title: first line of the picture.
        stretch: scale every image to its own minimum and maximum, so that faint ones show.

    Raises:
        InputError: shapes that do not fit, labels without a name, values outside [0, 1].
    """
    pixels, classes = _checked_arrays(images, labels, len(class_names), per_class)
    height, width = pixels.shape[2:]
    scale = _scale(height, width)
    row_step, column_step = height * scale + GAP, width * scale + GAP
    rows = grid_rows(height, width, len(class_names))
    names = drawable_names(class_names[:rows], length=_NAME_LENGTH)
    font = font_of("DejaVuSans.ttf")
    contrast = "contrast stretched per image" if stretch else "contrast not stretched"
    lines = [f"{contrast} · {height}×{width} pixels, shown {scale}×"]
    if rows < len(class_names):
        lines.append(f"first {rows} of {len(class_names)} classes")
    left = MARGIN + round(max(font.getlength(name) for name in names)) + 14
    top = MARGIN + (len(lines) + (title is not None)) * 22 + 8
    right = left + per_class * column_step - GAP
    picture = _captioned(title, lines, right=right, bottom=top + rows * row_step - GAP)
    draw = ImageDraw.Draw(picture)
    for row, name in enumerate(names):
        y = top + row * row_step
        middle = y + (row_step - GAP) / 2
        draw.text((left - 14, middle), name, fill=TEXT, font=font, anchor="rm")
        chosen = np.flatnonzero(classes == row)[:per_class]
        if not chosen.size:
            draw.text((left, middle), "no images", fill=QUIET, font=font, anchor="lm")
        for column, index in enumerate(chosen):
            cell = Image.fromarray(_enlarged(pixels[index], scale, stretch))
            picture.paste(cell, (left + column * column_step, y))
    buffer = BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def grid_rows(height: int, width: int, num_classes: int) -> int:
    """Return how many classes `image_grid` shows, the first ones, of images of this size."""
    return max(1, min(num_classes, _GRID_HEIGHT // (height * _scale(height, width) + GAP)))


def _scale(height: int, width: int) -> int:
    return max(1, round(CELL_SIDE / max(height, width)))


def _captioned(title: str | None, lines: Sequence[str], *, right: int, bottom: int) -> Image.Image:
    """Return a picture with title and lines, and room up to ``right`` and ``bottom``."""
    font, bold = font_of("DejaVuSans.ttf"), font_of("DejaVuSans-Bold.ttf")
    text_width = max([font.getlength(line) for line in lines] + [bold.getlength(title or "")])
    size = (max(right, MARGIN + round(text_width)) + MARGIN, bottom + MARGIN)
    picture = Image.new("RGB", size, PLATE)
    draw = ImageDraw.Draw(picture)
    if title is not None:
        draw.text((MARGIN, MARGIN), title, fill=TEXT, font=bold)
    for number, line in enumerate(lines, start=int(title is not None)):
        draw.text((MARGIN, MARGIN + 22 * number), line, fill=QUIET, font=font)
    return picture


def _checked_arrays(
    images: Tensor | npt.NDArray[Any],
    labels: Tensor | npt.NDArray[Any] | Sequence[int],
    num_classes: int,
    per_class: int,
) -> tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.int64]]:
    pixels = images.detach().cpu().numpy() if isinstance(images, Tensor) else images
    classes = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if pixels.ndim != 4 or pixels.shape[1] not in (1, 3) or pixels.dtype.kind != "f":
        raise InputError(
            f"images: {pixels.dtype} of shape {pixels.shape} cannot be shown: "
            "floating point of shape (n, 1 or 3, h, w) is needed"
        )
    if classes.shape != pixels.shape[:1]:
        raise InputError(f"labels: {classes.shape} does not fit {pixels.shape[0]} images")
    if classes.size and not 0 <= classes.min() <= classes.max() < num_classes:
        raise InputError(
            f"labels: {classes.min()} to {classes.max()} do not fit {num_classes} class names"
        )
    if num_classes < 1 or per_class < 1:
        raise InputError("class_names and per_class: at least one of each is needed")
    return pixels, classes.astype(np.int64)


def _enlarged(
    image: Float[np.ndarray, "c h w"], scale: int, stretch: bool
) -> UInt8[np.ndarray, "h2 w2 3"]:
    colour = as_colour(image, stretch=stretch)
    return colour.repeat(scale, axis=0).repeat(scale, axis=1)


def as_colour(image: Float[np.ndarray, "c h w"], *, stretch: bool) -> UInt8[np.ndarray, "h w 3"]:
    """Return an image in [0, 1] in eight bits a colour, stretched to its own range if asked.

    Raises:
        InputError: for values outside [0, 1].
    """
    low, high = float(image.min()), float(image.max())
    if not (low >= -1e-6 and high <= 1 + 1e-6):
        raise InputError(f"images: values from {low:.4g} to {high:.4g}: they must lie in [0, 1]")
    if stretch and high > low:
        image = (image - low) / (high - low)
    bytes_ = np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8).transpose(1, 2, 0)
    return np.broadcast_to(bytes_, (*bytes_.shape[:2], 3))


def drawable_names(names: Sequence[str], *, length: int) -> list[str]:
    """Return the names on one line each and cut to ``length`` characters.

    A name in a script that the font of the pictures lacks is replaced by its number.
    """
    glyphs = get_font(_FONTS / "DejaVuSans.ttf")
    drawn = []
    for number, name in enumerate(names):
        line = " ".join(name.split())
        known = all(glyphs.get_char_index(ord(character)) for character in line)
        short = line if len(line) <= length else line[: length - 1] + "…"
        drawn.append(short if known else str(number))
    return drawn


def font_of(file: str) -> ImageFont.FreeTypeFont:
    """Return a font of the pictures by its file."""
    return ImageFont.truetype(str(_FONTS / file), FONT_SIZE)
