"""Real images, only for evaluation, teacher training and upper bounds; never surrogate data."""

from dfshield.datasets.images import SPLITS, ImageSet
from dfshield.datasets.registry import DATASETS, Loader, load_images

__all__ = ["DATASETS", "SPLITS", "ImageSet", "Loader", "load_images"]
