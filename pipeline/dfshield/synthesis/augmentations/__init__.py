"""Changes of finished surrogate images: one contract (`Augmentation`), one registry."""

from dfshield.synthesis.augmentations.base import Augmentation, Partners
from dfshield.synthesis.augmentations.cutmix import CutMix
from dfshield.synthesis.augmentations.cutout import Cutout
from dfshield.synthesis.augmentations.mixup import Mixup
from dfshield.synthesis.augmentations.registry import AUGMENTATIONS

__all__ = ["AUGMENTATIONS", "Augmentation", "CutMix", "Cutout", "Mixup", "Partners"]
