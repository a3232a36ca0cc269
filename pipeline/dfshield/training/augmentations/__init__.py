"""Augmentations of the images inside a training: a family behind one contract (`Augmentation`)."""

from dfshield.training.augmentations.base import Augmentation
from dfshield.training.augmentations.crop import Crop
from dfshield.training.augmentations.cutmix import Cutmix
from dfshield.training.augmentations.cutout import Cutout
from dfshield.training.augmentations.flip import Flip
from dfshield.training.augmentations.registry import AUGMENTATIONS

__all__ = ["AUGMENTATIONS", "Augmentation", "Crop", "Cutmix", "Cutout", "Flip"]
