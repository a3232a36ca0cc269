"""After which epochs a hold-out measure is taken, so that it costs little of the training."""

import math

from dfshield.checks import at_least, positive
from dfshield.training.measures.base import HoldoutMeasure

MOST = 0.05
"""Share of a training's passes that a measure may take."""


def measured_epochs(
    measure: HoldoutMeasure, *, epochs: int, num_holdout: int, num_images: int, passes: float
) -> range:
    """Return the epochs, from 0, after which a measure is taken: the last, and evenly before it.

    At most 5 % of the training's passes go into it, unless one measurement alone takes more.

    Args:
        measure: what is taken.
        epochs: of the whole training.
        num_holdout: hold-out images that it is taken on.
        num_images: that an epoch trains on.
        passes: that the training spends on an image, counted as those of a measure.

    Raises:
        InputError: for a number that makes no sense, naming it.
    """
    at_least(1, epochs, "epochs")
    at_least(0, num_holdout, "num_holdout")
    at_least(1, num_images, "num_images")
    positive(passes, "passes")
    share = measure.passes * num_holdout / (MOST * passes * num_images)
    interval = max(1, math.ceil(share))
    count = max(1, epochs // interval)
    return range(epochs - 1 - (count - 1) * interval, epochs, interval)
