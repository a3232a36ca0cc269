"""Features of many images, batch by batch, with their progress."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from dfshield.diversity.features import FeatureSpace
from dfshield.pixels import as_floats
from dfshield.runs.watching.events import Observer

BATCH_SIZE = 250


def features_of(
    images: Shaped[Tensor, "n c h w"],
    space: FeatureSpace,
    *,
    device: str | torch.device,
    observer: Observer,
    title: str,
) -> Float[Tensor, "n d"]:
    """Return the features of images in a space, on a device.

    Args:
        images: as they are stored: float in [0, 1], or uint8.
        space: what it computes with lies on the device.
        device: where features are computed and stay.
        observer: is shown the progress.
        title: of the progress.
    """
    observer.begin(title, total=len(images), done=0, unit="images")
    found = []
    for start in range(0, len(images), BATCH_SIZE):
        batch = images[start : start + BATCH_SIZE]
        found.append(space(as_floats(batch.to(device))))
        observer.advance(float(len(batch)))
    observer.end()
    return torch.cat(found)
