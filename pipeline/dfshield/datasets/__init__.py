"""Real images, only for evaluation, teacher training and upper bounds; never surrogate data."""

from dfshield.datasets.images import SPLITS, ImageSet, image_hashes
from dfshield.datasets.names import numbers_of
from dfshield.datasets.registry import DATASETS, OWN_NAMES, Loader, load_images

__all__ = [
    "DATASETS",
    "OWN_NAMES",
    "SPLITS",
    "ImageSet",
    "Loader",
    "image_hashes",
    "load_images",
    "numbers_of",
]
