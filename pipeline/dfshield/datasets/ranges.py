"""The range of pixels: what is wrong with images of another one, and how to write them instead."""

from dataclasses import replace

import numpy as np

from dfshield.datasets.arrays import RANGE_TOLERANCE
from dfshield.datasets.images import ImageSet
from dfshield.errors import InputError

DIM = 32 / 255
"""Images none of which has a brighter pixel are worth a remark."""


def checked_range(images: ImageSet) -> ImageSet:
    """Return the images of a source, with a remark if all are very dark.

    Raises:
        InputError: for images that were scaled twice or cast to integers, so that all are black.
    """
    where = images.origin or f"{images.name} ({images.split})"
    whole = images.pixels.dtype == np.uint8
    brightest = float(images.pixels.max()) / (255 if whole else 1)
    if whole and brightest == 1 / 255:
        raise InputError(
            f"{where}: uint8 images hold only 0 and 1, where 255 is white: write images * 255, or "
            "the floats themselves if they were cast from [0, 1]"
        )
    if 0 < brightest <= 1 / 255 + RANGE_TOLERANCE:
        raise InputError(
            f"{where}: float images reach no more than {brightest:.2g}, where 1 is white: divide "
            "by 255 once, not twice"
        )
    if brightest >= DIM:
        return images
    remark = (
        f"no pixel of {where} is brighter than {brightest:.3g}, where 1 is white: are the images "
        "scaled as those that the model was trained on?"
    )
    return replace(images, remarks=(*images.remarks, remark))
