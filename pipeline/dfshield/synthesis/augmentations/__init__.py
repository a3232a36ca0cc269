"""Changes of finished surrogate images: one contract (`Augmentation`), one registry."""

from dfshield.synthesis.augmentations.base import Augmentation, Partners
from dfshield.synthesis.augmentations.cutmix import CutMixSet
from dfshield.synthesis.augmentations.cutout import CutoutSet
from dfshield.synthesis.augmentations.mixup import MixupSet
from dfshield.synthesis.augmentations.registry import AUGMENTATIONS

__all__ = ["AUGMENTATIONS", "Augmentation", "CutMixSet", "CutoutSet", "MixupSet", "Partners"]
