"""All feature spaces. A new one is one new file and one line here."""

from dfshield.diversity.features.base import FeatureSpace
from dfshield.diversity.features.pixels import Pixels
from dfshield.diversity.features.teacher import TeacherFeatures
from dfshield.diversity.features.vgg16 import Vgg16Features
from dfshield.families import Family

FEATURE_SPACES: Family[FeatureSpace] = Family(
    "feature space",
    (
        Pixels,
        TeacherFeatures,
        Vgg16Features,
    ),
    supplied={"model"},
)
