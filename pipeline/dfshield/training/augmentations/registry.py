"""All augmentations. A new augmentation is one new file and one line here."""

from dfshield.families import Family
from dfshield.training.augmentations.base import Augmentation
from dfshield.training.augmentations.crop import Crop
from dfshield.training.augmentations.cutmix import Cutmix
from dfshield.training.augmentations.cutout import Cutout
from dfshield.training.augmentations.flip import Flip

AUGMENTATIONS: Family[Augmentation] = Family("augmentation", (Flip, Crop, Cutout, Cutmix))
