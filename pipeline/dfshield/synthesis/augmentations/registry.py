"""All augmentations. A new one is one new file and one line here."""

from dfshield.families import Family
from dfshield.synthesis.augmentations.base import Augmentation
from dfshield.synthesis.augmentations.cutmix import CutMixSet
from dfshield.synthesis.augmentations.cutout import CutoutSet
from dfshield.synthesis.augmentations.mixup import MixupSet

AUGMENTATIONS: Family[Augmentation] = Family("augmentation", (MixupSet, CutoutSet, CutMixSet))
