"""All augmentations. A new one is one new file and one line here."""

from dfshield.families import Family
from dfshield.synthesis.augmentations.base import Augmentation
from dfshield.synthesis.augmentations.cutmix import CutMix
from dfshield.synthesis.augmentations.cutout import Cutout
from dfshield.synthesis.augmentations.mixup import Mixup

AUGMENTATIONS: Family[Augmentation] = Family("augmentation", (Mixup, Cutout, CutMix))
