"""Several sets of images side by side: pictures as PNG and SVG, and their numbers as CSV."""

from dfshield.report.sets.bars import format_score, score_bars, score_table, settings_line
from dfshield.report.sets.page import ImageRow, SetImages, image_page, image_table
from dfshield.report.sets.plane import PlaneView, PointsView, plane_figure, plane_table

__all__ = [
    "ImageRow",
    "PlaneView",
    "PointsView",
    "SetImages",
    "format_score",
    "image_page",
    "image_table",
    "plane_figure",
    "plane_table",
    "score_bars",
    "score_table",
    "settings_line",
]
